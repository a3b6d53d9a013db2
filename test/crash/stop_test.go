package crash

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"qstream/test/fakemx"
)

// TestCleanStops stops and starts everything by SIGTERM under load, in front
// of sinks that take their time for the last reply: nothing is lost, and
// nothing is delivered twice while they answer within 45 s.
func TestCleanStops(t *testing.T) {
	each(t, "embedded,kafka1", "kafka3", func(t *testing.T, broker string) {
		delays := []time.Duration{0, 5 * time.Second}
		if long {
			delays = []time.Duration{0, 30 * time.Second, 120 * time.Second}
		}
		for _, delay := range delays {
			t.Run(fmt.Sprint("reply after ", delay), func(t *testing.T) {
				tr := start(t, broker, false, fakemx.Config{Rules: []fakemx.Rule{{Line: ".", Delay: delay}}})
				tr.scanned()
				tr.widen()
				tr.begin(5, 30, 0)
				for range 2 {
					time.Sleep(3 * time.Second)
					must(t, tr.Signal("up", syscall.SIGTERM))
					must(t, tr.Again("up"))
				}
				time.Sleep(time.Second)
				tr.end()
				bound := 0
				if delay > 45*time.Second {
					bound = uncommitted
				}
				tr.settle("clean stops", bound)
			})
		}
	})
}

// TestReplicas adds and removes deliver and router processes under load.
func TestReplicas(t *testing.T) {
	each(t, "kafka1", "kafka3", func(t *testing.T, broker string) {
		tr := start(t, broker, true, fakemx.Config{Rules: []fakemx.Rule{{Line: ".", Delay: 300 * time.Millisecond}}})
		tr.begin(5, 50, 0)
		for i := range 3 {
			for _, role := range []string{"deliver", "router"} {
				must(t, tr.Role(role, fmt.Sprintf("%s-%d", role, i), nil))
				time.Sleep(time.Second)
			}
			must(t, tr.Signal(fmt.Sprintf("deliver-%d", i), syscall.SIGTERM))
			must(t, tr.Signal(fmt.Sprintf("router-%d", i), syscall.SIGTERM))
		}
		tr.end()
		tr.settle("replicas added and removed", 0)
	})
}

// TestRolling restarts every process in turn, again and again, as an upgrade
// does: two of each role on Kafka, all there is where the broker is embedded.
// Some mail is deferred, so that delay is at work too.
func TestRolling(t *testing.T) {
	needLong(t)
	each(t, "embedded,kafka1", "kafka3", func(t *testing.T, broker string) {
		tr := start(t, broker, true, fakemx.Config{Rules: []fakemx.Rule{{Line: ".", Delay: 200 * time.Millisecond}}})
		names := []string{"up"}
		if broker != "embedded" {
			names = nil
			for _, role := range []string{"deliver", "router", "scanner", "delay"} {
				must(t, tr.Role(role, role+"-b", nil))
				names = append(names, role, role+"-b")
			}
		}
		tr.begin(10, 100, 0)
		const restarts = 30
		for i := range restarts {
			tr.sink.SetRules(
				fakemx.Rule{Line: "RCPT TO:<user@d3.beta", Reply: "451 4.2.0 later", Times: 10},
				fakemx.Rule{Line: ".", Delay: 200 * time.Millisecond})
			time.Sleep(time.Second)
			must(t, tr.Signal(names[i%len(names)], syscall.SIGTERM))
			must(t, tr.Again(names[i%len(names)]))
		}
		time.Sleep(time.Second)
		tr.end()
		tr.settle(fmt.Sprintf("%d restarts in turn", restarts), 0)
	})
}
