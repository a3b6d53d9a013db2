package directory

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"qstream/bus/bustest"
)

func TestEdits(t *testing.T) {
	before := snapshotOf(t, "kind: queue\nname: acme\nlifetime: 5d\nschedule: {steps: [1m, 5m]}\n---\nkind: queue\nname: old\n")
	after := snapshotOf(t, "kind: queue\nname: acme\nlifetime: 3d\nschedule: {steps: [1m, 2m, 5m]}\n---\nkind: queue\nname: new\n")
	var got strings.Builder
	for _, e := range Edits(before, after) {
		got.WriteString(e.String())
	}
	want := `changed queue/acme
    kind: queue
    name: acme
  - lifetime: 5d
  + lifetime: 3d
    schedule:
      steps:
      - 1m
  + - 2m
    - 5m
added queue/new
  + kind: queue
  + name: new
deleted queue/old
  - kind: queue
  - name: old
`
	want = strings.ReplaceAll(want, "  + - 2m\n    - 5m", "  +   - 2m\n      - 5m")
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
}

func TestDiffOfLongLists(t *testing.T) {
	var old, new []string
	for i := range 3000 {
		old = append(old, strings.Repeat("x", i%7)+string(rune('a'+i%26))+strings.Repeat("y", i/100))
	}
	new = append(append(new, old[5:]...), "z")
	out := diffLines(old, append([]string{"first"}, new...))
	if len(out) == 0 || len(out) > 20 {
		t.Errorf("%d lines", len(out))
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	applyText(t, b, "kind: queue\nname: acme\n---\nkind: queue\nname: beta\n")
	applyText(t, b, "kind: queue\nname: acme\nlifetime: 4d\n", Ref{KindQueue, "beta"})
	bustest.Put(t, b, bustest.Records(t, b, "qstream.directory.v1")[0]) // lost: based on 0
	var got []string
	err := History(t.Context(), b, func(p Past) error {
		if p.Actor != "test" || p.At.IsZero() {
			t.Errorf("%+v", p)
		}
		for _, e := range p.Edits {
			got = append(got, strings.Join([]string{string(rune('0' + p.Number)), string(e.Action), e.Ref.String()}, " "))
		}
		return nil
	})
	want := []string{"1 added queue/acme", "1 added queue/beta", "2 changed queue/acme", "2 deleted queue/beta"}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	s, err := ReadNumber(t.Context(), b, 1)
	if err != nil || s.Queue("beta") == nil {
		t.Errorf("%v", err)
	}
	if _, err := ReadNumber(t.Context(), b, 3); err == nil {
		t.Error("a number that never was")
	}
}
