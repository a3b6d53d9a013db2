package crash

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"qstream/test/fakemx"
)

// uncommitted is the most work that one process has open or uncommitted,
// whatever its queues' concurrency (docs/guarantees.md, 5).
const uncommitted = 1000

// TestKillUp kills the process that holds everything, broker included where
// it is embedded, again and again under load.
func TestKillUp(t *testing.T) {
	each(t, "embedded", "kafka1,kafka3", func(t *testing.T, broker string) {
		kills := 4
		if long {
			kills = 40
		}
		tr := start(t, broker, false, fakemx.Config{})
		tr.begin(10, 200, 0)
		for i := range kills {
			time.Sleep(time.Duration(1500+137*i%900) * time.Millisecond)
			must(t, tr.Signal("up", syscall.SIGKILL))
			must(t, tr.Again("up"))
		}
		time.Sleep(time.Second)
		tr.end()
		tr.settle(fmt.Sprintf("%d kills of up", kills), kills*inFlight)
		tr.reread()
	})
}

// reread reads the received topic from its first offset: every accepted mail
// is there.
func (tr *trial) reread() {
	tr.t.Helper()
	out, errs, err := tr.Verb("tail", "qstream.received.v1", "--json")
	if err != nil {
		tr.t.Fatalf("read again: %v\n%s", err, errs)
	}
	stored := map[string]bool{}
	dec := json.NewDecoder(bytes.NewReader(out))
	for dec.More() {
		var r struct{ Value struct{ ID string } }
		if err := dec.Decode(&r); err != nil {
			tr.t.Fatal(err)
		}
		stored[r.Value.ID] = true
	}
	missing := 0
	for _, id := range tr.load.IDs() {
		if !stored[id] {
			missing++
		}
	}
	tr.t.Logf("read again from the start: %d records, %d accepted mails missing", len(stored), missing)
	if missing > 0 {
		tr.t.Errorf("%d accepted mails are not on the received topic", missing)
	}
}

// TestKillRoles kills each role of a system of single processes.
func TestKillRoles(t *testing.T) {
	each(t, "kafka1,kafka3", "", func(t *testing.T, broker string) {
		tr := start(t, broker, true, fakemx.Config{})
		tr.scanned()
		tr.begin(10, 100, 0)
		kills := 0
		rounds := 1
		if long {
			rounds = 8
		}
		for range rounds {
			for _, role := range []string{"deliver", "router", "scanner", "delay", "ingest"} {
				time.Sleep(3 * time.Second)
				must(t, tr.Signal(role, syscall.SIGKILL))
				must(t, tr.Again(role))
				kills++
			}
		}
		time.Sleep(2 * time.Second)
		tr.end()
		tr.settle(fmt.Sprintf("%d kills of single roles", kills), kills*inFlight)
	})
}

// failpoints are the places where a crash hurts most, with the hit at which
// the process kills itself.
var failpoints = strings.Fields(`
	publish.before:40 publish.after:40
	txn.begin:9 txn.produced:9 txn.barrier:9 txn.offsets:9 txn.ended:9
	journal.before:30 journal.after:30
	hold.released:2
	deliver.dot.before:30 deliver.dot.after:30
	ingest.reply.before:30`)

// TestFailpoints lets the process kill itself at each of the places, one after
// the other, while mail comes in.
func TestFailpoints(t *testing.T) {
	each(t, "embedded,kafka1,kafka3", "", func(t *testing.T, broker string) {
		tr := start(t, broker, false, fakemx.Config{})
		tr.scanned()
		tr.begin(10, 100, 0)
		for _, point := range failpoints {
			// Some mail is deferred once more, so that delay works too.
			tr.sink.SetRules(fakemx.Rule{Line: "RCPT TO:<user@d3.beta", Reply: "451 4.2.0 later", Times: 20})
			must(t, tr.Signal("up", syscall.SIGKILL))
			tr.Procs["up"].Env = []string{"QSTREAM_FAILPOINT=" + point}
			must(t, tr.Launch("up"))
			if !tr.Ended("up", 45*time.Second) {
				t.Errorf("the failpoint %s was never reached\n%s", point, tr.LogTail("up"))
			}
		}
		must(t, tr.Signal("up", syscall.SIGKILL))
		tr.Procs["up"].Env = nil
		must(t, tr.Again("up"))
		time.Sleep(time.Second)
		tr.end()
		tr.settle(fmt.Sprintf("kills at %d failpoints", len(failpoints)), (len(failpoints)+1)*inFlight)
		tr.reread()
	})
}

// TestKillInFlight kills the process while nearly a thousand attempts are past
// their final dot and none has its reply. One tenant alone gets 8 of 9 of what a
// process may have open.
func TestKillInFlight(t *testing.T) {
	each(t, "embedded,kafka1", "", func(t *testing.T, broker string) {
		release := make(chan struct{})
		tr := start(t, broker, false, fakemx.Config{Rules: []fakemx.Rule{{Line: ".", Hold: release}}})
		tr.widen()
		tr.begin(20, 0, 1500)
		waitFor(t, "mails to be accepted", func() bool { return tr.load.Accepted() == 1500 })
		waitFor(t, "attempts in flight", func() bool { return tr.sink.Open() >= 850 })
		time.Sleep(time.Second)
		t.Logf("attempts in flight at the kill: %d", tr.sink.Open())
		must(t, tr.Signal("up", syscall.SIGKILL))
		close(release)
		must(t, tr.Again("up"))
		tr.wg.Wait()
		tr.settle("kill in flight", uncommitted)
	})
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("waited in vain for %s", what)
}
