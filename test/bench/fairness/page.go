package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// Marks around what is written into the page.
const (
	begin = "<!-- fairness: written by make fairness -->"
	end   = "<!-- fairness: end -->"
)

// writePage puts the section into the page, between its marks, or at its end.
func writePage(path string, all []Trial) error {
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if found && !closed {
		return fmt.Errorf("%s: %q is missing", path, end)
	}
	if !found {
		before = strings.TrimRight(before, "\n") + "\n\n"
		after = "\n"
	}
	return os.WriteFile(path, []byte(before+begin+"\n"+section(all)+end+after), 0o644)
}

// section is all figures as Markdown.
func section(all []Trial) string {
	var b strings.Builder
	b.WriteString("\n| case | how it is built |\n|---|---|\n")
	for _, s := range scenes {
		fmt.Fprintf(&b, "| %s | %s |\n", s.Name, s.What)
	}
	if first, last := span(all); len(all) > 0 {
		fmt.Fprintf(&b, "\nTrials from %s to %s UTC, %s quiet mails in a run; of several the median.\n", first.Format("2006-01-02 15:04"), last.Format("2006-01-02 15:04"), sizes(all))
	}
	for i, kind := range kinds {
		fmt.Fprintf(&b, "\nThe %s: p50 / p99 in ms of the acknowledgement and end to end, and the verdict on the end-to-end p99:\n\n", kind)
		b.WriteString("| case | peer | trials | accepted in s | ack quiet | ack noisy | quiet run | while the noise is accepted | noisy run | allowed p99 | verdict | others |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n")
		for _, g := range groups(all) {
			b.WriteString(g.row(i))
		}
	}
	b.WriteString(replays(all))
	return b.String()
}

// replays are what the verbs took that read the past, of each trial.
func replays(all []Trial) string {
	var b strings.Builder
	for _, t := range all {
		if t.Replay == nil {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("\nThe verbs of *replay*, each reading everything alone; the highest CPU time and memory of one:\n\n")
			b.WriteString("| peer | messages read | selected | verbs in the noisy run | list, s | messages a second | redeliver, s | CPU s | memory MB |\n|---|---|---|---|---|---|---|---|---|\n")
		}
		r := t.Replay
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %.1f | %.0f | %.1f | %.1f | %.0f |\n",
			t.Peer, r.Messages, r.Matched, r.Verbs, r.List, r.speed(), r.Again, r.CPU, r.Memory)
	}
	return b.String()
}

// span is from the first trial's start to the last one's.
func span(all []Trial) (first, last time.Time) {
	for _, t := range all {
		if first.IsZero() || t.At.Before(first) {
			first = t.At
		}
		if t.At.After(last) {
			last = t.At
		}
	}
	return first, last
}

// sizes are how many quiet mails the runs had: one number, or the least and the
// most.
func sizes(all []Trial) string {
	least, most := all[0].Noisy[0].Mails, all[0].Noisy[0].Mails
	for _, t := range all {
		least, most = min(least, t.Noisy[0].Mails), max(most, t.Noisy[0].Mails)
	}
	if least == most {
		return fmt.Sprint(least)
	}
	return fmt.Sprintf("%d to %d", least, most)
}

func (g group) row(i int) string {
	pair := func(of func(Trial) Figure, p50, p99 func(Figure) float64) string {
		low := g.median(func(t Trial) float64 { return p50(of(t)) })
		high := g.median(func(t Trial) float64 { return p99(of(t)) })
		return clean(low) + " / " + clean(high)
	}
	ack := func(of func(Trial) Figure) string {
		return pair(of, func(f Figure) float64 { return f.AckP50 }, func(f Figure) float64 { return f.AckP99 })
	}
	whole := func(of func(Trial) Figure) string {
		s := pair(of, func(f Figure) float64 { return f.P50 }, func(f Figure) float64 { return f.P99 })
		arrived, mails := 0, 0
		for _, t := range g.trials {
			arrived, mails = arrived+of(t).Arrived, mails+of(t).Mails
		}
		if arrived < mails {
			s += fmt.Sprintf(" (%d of %d came)", arrived, mails)
		}
		return s
	}
	before := func(t Trial) Figure { return t.Before[i] }
	during := func(t Trial) Figure { return t.Load[i] }
	noisy := func(t Trial) Figure { return t.Noisy[i] }
	quiet := g.median(func(t Trial) float64 { return t.Before[i].P99 })
	loud := g.median(func(t Trial) float64 { return t.Noisy[i].P99 })
	return fmt.Sprintf("| %s | %s | %d | %.0f in %.0f | %s | %s | %s | %s | %s | %s | %s | %.1f / %.1f |\n", g.scene, g.peer, len(g.trials),
		g.median(func(t Trial) float64 { return float64(t.Accepted) }), g.median(func(t Trial) float64 { return t.Seconds }),
		ack(before), ack(noisy), whole(before), whole(during), whole(noisy), clean(allowed(quiet)), verdict(quiet, loud, g.waiting()),
		g.median(func(t Trial) float64 { return t.ForeignIdle }), g.median(func(t Trial) float64 { return t.Foreign }))
}
