package crash

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qstream/bus"
	"qstream/schemas"
	"qstream/test/fakemx"
	"qstream/test/rig"
)

// TestMemory hands in the largest mails at once, 100 on Kafka and 20 on the
// embedded broker: the process stays under 500 MB, and all arrive.
func TestMemory(t *testing.T) {
	each(t, "", "embedded,kafka1", func(t *testing.T, broker string) {
		sessions := 100
		if broker == "embedded" {
			sessions = 20
		}
		tr := start(t, broker, true, fakemx.Config{})
		content := rig.Sized(49 << 20)
		var wg sync.WaitGroup
		errs := make([]error, sessions)
		for i := range sessions {
			wg.Go(func() {
				_, errs[i] = rig.Hand(tr.SMTP, rig.Message{From: "a@client.example", To: "user@acme.example", Content: content}, io.Discard)
			})
		}
		wg.Wait()
		accepted := 0
		for _, err := range errs {
			if err == nil {
				accepted++
			} else if !strings.Contains(err.Error(), `"4`) {
				t.Errorf("%v", err)
			}
		}
		if accepted == 0 {
			t.Fatal("nothing was accepted: the trial shows nothing")
		}
		waitFor(t, "all mails", func() bool { return len(tr.sink.Accepted()) >= accepted })
		for name, p := range tr.Procs {
			peak := peakMemory(t, p.PID())
			t.Logf("%s: peak %d MB (%d of %d sessions accepted)", name, peak>>20, accepted, sessions)
			if peak > 500<<20 {
				t.Errorf("%s used %d MB", name, peak>>20)
			}
		}
	})
}

// TestMemoryIdle starts everything in one process on empty data and leaves it
// alone: it stays under 150 MB.
func TestMemoryIdle(t *testing.T) {
	needLong(t)
	each(t, "embedded", "", func(t *testing.T, broker string) {
		tr := start(t, broker, false, fakemx.Config{})
		time.Sleep(2 * time.Minute)
		tr.within("up", 150, "idle for two minutes")
	})
}

// TestMemoryWaiting has a million deferred legs in the delay tiers, on a
// broker of its own process, and starts delay: it needs at most 500 MB from
// its start until it knows them all.
func TestMemoryWaiting(t *testing.T) {
	needLong(t)
	each(t, "kafka1", "", func(t *testing.T, broker string) {
		const legs, destinations = 1_000_000, 20_000
		tr := start(t, broker, true, fakemx.Config{})
		must(t, tr.Signal("delay", syscall.SIGTERM))
		k := newBacklog(t, tr.dial())
		k.put(legs, func(i int) bus.Record {
			l := k.leg(i, "beta", "25")
			l.Destination = fmt.Sprintf("d%d.beta.example", i%destinations)
			l.DueMs = time.Now().Add(2*time.Hour + time.Duration(i%7200)*time.Second).UnixMilli()
			return bus.NewWaiting(schemas.DelayTopics()[4], l)
		})
		began := time.Now()
		must(t, tr.Again("delay"))
		t.Logf("delay knows %d legs after %v", legs, time.Since(began).Round(100*time.Millisecond))
		time.Sleep(75 * time.Second) // the scan of contents comes each minute
		tr.within("delay", 500, "a million deferred legs")
	})
}

// TestMemorySessions has 50 clients with a mail of 1 MB each at once: the
// process that is everything, broker and all, stays under 300 MB.
func TestMemorySessions(t *testing.T) {
	needLong(t)
	each(t, "embedded", "", func(t *testing.T, broker string) {
		const sessions = 50
		tr := start(t, broker, false, fakemx.Config{})
		content := rig.Sized(1 << 20)
		for round := range 3 {
			var wg sync.WaitGroup
			for range sessions {
				wg.Go(func() {
					if _, err := rig.Hand(tr.SMTP, rig.Message{From: "a@client.example", To: "user@acme.example", Content: content}, io.Discard); err != nil {
						t.Errorf("%v", err)
					}
				})
			}
			wg.Wait()
			waitFor(t, "all mails", func() bool { return len(tr.sink.Accepted()) >= sessions*(round+1) })
		}
		tr.within("up", 300, "three times 50 sessions with 1 MB each")
	})
}

func needLong(t *testing.T) {
	t.Helper()
	if !long {
		t.Skip("takes a minute or more: needs QSTREAM_TEST_LONG")
	}
}

// within holds a process's peak against a bound.
func (tr *trial) within(name string, megabytes int, with string) {
	tr.t.Helper()
	pid := tr.Procs[name].PID()
	peak, now := memory(tr.t, pid, "VmHWM")>>20, memory(tr.t, pid, "VmRSS")>>20
	tr.t.Logf("%s, %s: %d MB, peak %d MB", name, with, now, peak)
	if peak > megabytes {
		tr.t.Errorf("%s used %d MB, wanted at most %d", name, peak, megabytes)
	}
}

// peakMemory is a process's largest resident size so far, in bytes.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	return memory(t, pid, "VmHWM")
}

// memory is a line of a process's status, in bytes.
func memory(t *testing.T, pid int, what string) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.SplitSeq(string(text), "\n") {
		var kb int
		if _, err := fmt.Sscanf(line, what+": %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	t.Fatalf("no %s", what)
	return 0
}
