package directory

import (
	"maps"
	"slices"
	"strings"
)

// Action is what happened to a document.
type Action string

// Actions.
const (
	Added   Action = "added"
	Changed Action = "changed"
	Deleted Action = "deleted"
)

// Edit is what happened to one document between two snapshots.
type Edit struct {
	Action   Action
	Ref      Ref
	Old, New string // YAML; empty where there is none
}

// Edits are what differs between two snapshots, by kind and name.
func Edits(before, after *Snapshot) []Edit { return edits(texts(before), texts(after)) }

func texts(s *Snapshot) map[Ref]string {
	m := make(map[Ref]string, len(s.docs))
	for _, d := range s.docs {
		m[d.Ref] = d.YAML
	}
	return m
}

func edits(before, after map[Ref]string) []Edit {
	var all []Edit
	for ref, text := range after {
		switch old, ok := before[ref]; {
		case !ok:
			all = append(all, Edit{Added, ref, "", text})
		case old != text:
			all = append(all, Edit{Changed, ref, old, text})
		}
	}
	for ref, old := range before {
		if _, ok := after[ref]; !ok {
			all = append(all, Edit{Deleted, ref, old, ""})
		}
	}
	slices.SortFunc(all, func(a, b Edit) int { return compareRefs(a.Ref, b.Ref) })
	return all
}

// String is the edit for people: what happened, then the lines that differ,
// behind "+" and "-".
func (e Edit) String() string {
	var b strings.Builder
	b.WriteString(string(e.Action) + " " + e.Ref.String() + "\n")
	for _, l := range diffLines(lines(e.Old), lines(e.New)) {
		b.WriteString("  " + l + "\n")
	}
	return b.String()
}

func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimRight(text, "\n"), "\n")
}

// diffLines are the lines of both, those of old alone behind "-", those of new
// alone behind "+". A long tail of equal lines is left out.
func diffLines(old, new []string) []string {
	head := 0
	for head < len(old) && head < len(new) && old[head] == new[head] {
		head++
	}
	tail := 0
	for tail < len(old)-head && tail < len(new)-head && old[len(old)-1-tail] == new[len(new)-1-tail] {
		tail++
	}
	var out []string
	for _, l := range old[max(0, head-3):head] {
		out = append(out, "  "+l)
	}
	out = append(out, diffMiddle(old[head:len(old)-tail], new[head:len(new)-tail])...)
	for _, l := range old[len(old)-tail : len(old)-max(0, tail-3)] {
		out = append(out, "  "+l)
	}
	return out
}

// maxLines bounds where the order of lines is compared; longer documents are
// lists of domains, of which only who came and went is of interest.
const maxLines = 1000

func diffMiddle(old, new []string) []string {
	if len(old) > maxLines || len(new) > maxLines {
		return diffSets(old, new)
	}
	// common[i][j] is the length of the longest common subsequence of old[i:]
	// and new[j:].
	common := make([][]int, len(old)+1)
	for i := range common {
		common[i] = make([]int, len(new)+1)
	}
	for i := len(old) - 1; i >= 0; i-- {
		for j := len(new) - 1; j >= 0; j-- {
			if old[i] == new[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	i, j := 0, 0
	for i < len(old) || j < len(new) {
		switch {
		case i < len(old) && j < len(new) && old[i] == new[j]:
			out = append(out, "  "+old[i])
			i, j = i+1, j+1
		case j == len(new) || i < len(old) && common[i+1][j] >= common[i][j+1]:
			out = append(out, "- "+old[i])
			i++
		default:
			out = append(out, "+ "+new[j])
			j++
		}
	}
	return out
}

func diffSets(old, new []string) (out []string) {
	set := func(lines []string) map[string]bool {
		m := make(map[string]bool, len(lines))
		for _, l := range lines {
			m[l] = true
		}
		return m
	}
	was, is := set(old), set(new)
	maps.DeleteFunc(was, func(l string, _ bool) bool { return is[l] })
	for _, l := range slices.Sorted(maps.Keys(was)) {
		out = append(out, "- "+l)
	}
	was = set(old)
	maps.DeleteFunc(is, func(l string, _ bool) bool { return was[l] })
	for _, l := range slices.Sorted(maps.Keys(is)) {
		out = append(out, "+ "+l)
	}
	return out
}
