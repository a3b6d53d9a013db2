package crash

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"qstream/test/fakemx"
)

// TestFrozenWorker stops one of two deliver processes in the middle of its
// work. The tenants whose partitions the other one owns go on unmoved; those
// of the frozen one are taken over once its session ended.
func TestFrozenWorker(t *testing.T) {
	each(t, "kafka1", "kafka3", func(t *testing.T, broker string) {
		tr := start(t, broker, true, fakemx.Config{})
		must(t, tr.Role("deliver", "deliver-2", nil))
		tr.tenants(10)
		tr.to = func(n int) string { return fmt.Sprintf("user@t%d.example", n%10) }
		time.Sleep(3 * time.Second)
		tr.begin(5, 50, 0)
		time.Sleep(6 * time.Second)
		must(t, tr.Signal("deliver", syscall.SIGSTOP))
		froze := time.Now()
		time.Sleep(15 * time.Second)
		must(t, tr.Signal("deliver", syscall.SIGCONT))
		time.Sleep(2 * time.Second)
		tr.end()
		tr.settle("deliver frozen for 15 s", inFlight)
		gaps := tr.gaps(froze, froze.Add(15*time.Second), 10)
		t.Logf("longest silence per tenant while frozen: %v", gaps)
		// A take-over would take the session's 6 s.
		if unmoved := gaps[2]; unmoved > 4*time.Second {
			t.Errorf("tenants of the worker that runs were silent for %v", unmoved)
		}
		if longest := gaps[9]; longest > 14*time.Second {
			t.Errorf("a tenant of the frozen worker was silent for %v: nobody took over", longest)
		}
	})
}

// tenants adds so many tenants t0, t1, ... with a queue each.
func (tr *trial) tenants(n int) {
	tr.t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "kind: tenant\nname: t%[1]d\ndomains: [t%[1]d.example]\n---\n"+
			"kind: route\nname: t%[1]d\nmatch: {domain: t%[1]d.example}\nvia: smtp://mx%[1]d.sink.example:%[2]d\n---\n", i, tr.sink.Port())
	}
	file := filepath.Join(tr.Work, "tenants.yaml")
	must(tr.t, os.WriteFile(file, []byte(strings.TrimSuffix(b.String(), "---\n")), 0o644))
	if out, errs, err := tr.Verb("apply", file); err != nil {
		tr.t.Fatalf("apply: %v\n%s%s", err, out, errs)
	}
}

// gaps are the longest times without an arrival between from and to, one for
// each of so many recipients, the shortest first.
func (tr *trial) gaps(from, to time.Time, recipients int) []time.Duration {
	last, longest := map[string]time.Time{}, map[string]time.Duration{}
	for n := range recipients {
		last[tr.to(n)] = from
	}
	for _, m := range tr.sink.Accepted() {
		if d := m.Rcpts[0]; !m.Time.Before(from) && !m.Time.After(to) {
			longest[d] = max(longest[d], m.Time.Sub(last[d]))
			last[d] = m.Time
		}
	}
	for d, at := range last {
		longest[d] = max(longest[d], to.Sub(at))
	}
	return slices.Sorted(maps.Values(longest))
}

// TestClockOff starts each role with a clock that is ten days ahead, then ten
// days behind: nothing bounces, nothing is deleted, and once the clock is
// right everything arrives.
func TestClockOff(t *testing.T) {
	each(t, "kafka1", "", func(t *testing.T, broker string) {
		tr := start(t, broker, true, fakemx.Config{Rules: []fakemx.Rule{{Line: "RCPT TO:<user@d3.beta", Reply: "451 4.2.0 later", Times: 10}}})
		tr.begin(3, 20, 0)
		offsets := []string{"240h"} // what is behind expires nothing
		if long {
			offsets = append(offsets, "-240h")
		}
		for _, role := range []string{"deliver", "delay", "router", "ingest"} {
			for _, offset := range offsets {
				must(t, tr.Signal(role, syscall.SIGKILL))
				tr.Procs[role].Env = []string{"QSTREAM_CLOCK_OFFSET=" + offset}
				must(t, tr.Launch(role))
				time.Sleep(4 * time.Second)
				if tr.Ready(role) && (role == "deliver" || role == "delay") {
					t.Errorf("%s says it is ready with a clock %s off", role, offset)
				}
				must(t, tr.Signal(role, syscall.SIGKILL))
				tr.Procs[role].Env = nil
				must(t, tr.Again(role))
			}
		}
		time.Sleep(2 * time.Second)
		tr.end()
		tr.settle("clocks ten days off", 4*inFlight)
	})
}
