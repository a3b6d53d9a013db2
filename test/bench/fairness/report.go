package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// kinds name a window's two figures.
var kinds = [2]string{"quiet tenant", "healthy destination"}

// String is a trial for people.
func (t Trial) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s: %d accepted in %.0f s (%d refused), %d waiting; CPU %.1f s quiet, %.1f s noisy; foreign %.2f and %.2f\n",
		t.Case, t.Peer, t.Accepted, t.Seconds, t.Refused, t.Waiting, t.IdleCPU, t.CPU, t.ForeignIdle, t.Foreign)
	for i, kind := range kinds {
		fmt.Fprintf(&b, "  %-20s before %s  load %s  noisy %s", kind, t.Before[i], t.Load[i], t.Noisy[i])
		if t.After != nil {
			fmt.Fprintf(&b, "  after %s", t.After[i])
		}
		fmt.Fprintf(&b, "  %s\n", verdict(t.Before[i].P99, t.Noisy[i].P99, float64(t.Waiting)))
	}
	if t.Replay != nil {
		fmt.Fprintf(&b, "  %s\n", t.Replay)
	}
	return b.String()
}

func (f Figure) String() string {
	return fmt.Sprintf("[%d/%d ack %s %s e2e %s %s]", f.Arrived, f.Mails, clean(f.AckP50), clean(f.AckP99), clean(f.P50), clean(f.P99))
}

// clean is a time in milliseconds.
func clean(ms float64) string {
	switch {
	case ms == never:
		return "never"
	case ms >= 100:
		return fmt.Sprintf("%.0f", ms)
	}
	return fmt.Sprintf("%.1f", ms)
}

// verdict judges a noisy run. One at whose end none of the noise waited any
// more may have been as quiet as the quiet run.
func verdict(quiet, noisy, waiting float64) string {
	switch {
	case !holds(quiet, noisy):
		return "fails"
	case waiting <= 0:
		return "shows nothing: the noise was over"
	}
	return "holds"
}

// verdicts are the cases in which qstream leaves the bound, or in which that
// can't be told.
func verdicts(trials []Trial) []error {
	var all []error
	for _, g := range groups(trials) {
		if g.peer == "postfix" {
			continue
		}
		for i, kind := range kinds {
			quiet, noisy := g.median(func(t Trial) float64 { return t.Before[i].P99 }), g.median(func(t Trial) float64 { return t.Noisy[i].P99 })
			if v := verdict(quiet, noisy, g.waiting()); v != "holds" {
				all = append(all, fmt.Errorf("%s on %s: p99 of the %s went from %s to %s ms: %s", g.scene, g.peer, kind, clean(quiet), clean(noisy), v))
			}
		}
	}
	return all
}

// group is the trials of one case on one peer.
type group struct {
	scene, peer string
	trials      []Trial
}

// groups are in the order of the cases, qstream first.
func groups(trials []Trial) []group {
	var all []group
	for _, s := range scenes {
		for _, t := range trials {
			if t.Case != s.Name {
				continue
			}
			i := slices.IndexFunc(all, func(g group) bool { return g.scene == t.Case && g.peer == t.Peer })
			if i < 0 {
				i = len(all)
				all = append(all, group{scene: t.Case, peer: t.Peer})
			}
			all[i].trials = append(all[i].trials, t)
		}
	}
	return all
}

// median is of a figure over the trials; never is the greatest.
func (g group) median(of func(Trial) float64) float64 {
	var all []float64
	for _, t := range g.trials {
		all = append(all, of(t))
	}
	slices.SortFunc(all, func(a, b float64) int {
		switch {
		case a == b:
			return 0
		case a == never || b != never && a > b:
			return 1
		}
		return -1
	})
	return all[len(all)/2]
}

// waiting is how much of the noise was there at the end of the noisy run.
func (g group) waiting() float64 {
	return g.median(func(t Trial) float64 { return float64(max(t.Waiting, 0)) })
}

func readTrials(path string) ([]Trial, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Trial
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return all, nil
}

func writeTrials(path string, all []Trial) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// without leaves out the trials of a case and peer that there are fresh ones of.
func without(all, fresh []Trial) []Trial {
	return slices.DeleteFunc(all, func(t Trial) bool {
		return slices.ContainsFunc(fresh, func(f Trial) bool { return f.Case == t.Case && f.Peer == t.Peer })
	})
}
