package scanner

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"qstream/bus/bustest"
	"qstream/engine"
	"qstream/engine/engines"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakeclamd"
)

// A clamd that is down, hangs or breaks keeps mail from passing, whatever it
// does, until it is back; other queues go on meanwhile. The test stands for
// delay.
func TestEngineInTrouble(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, site(c.Addr(), ""))
	s, _ := start(t, b, Config{})
	ref := stored(t, b, "01JD0000000000000000000001", "hello")
	waits := func(n int) []*pb.Leg {
		t.Helper()
		return legOn(t, b, schemas.DelayTopics()[0], n)
	}
	c.Down()
	put(t, b, wanted(ref, "a@acme.example"))
	l := waits(1)[0]
	if l.Reason != pb.Reason_REASON_SCAN || l.Scan.State != pb.ScanState_SCAN_STATE_WANTED || l.Scan.Waits != 1 || l.Scan.SinceMs == 0 || l.Scan.Tries != 0 {
		t.Errorf("down: %v", l)
	}
	if e := eventOf(t, b, pb.EventType_EVENT_TYPE_UNSCANNED); e.DueMs != l.DueMs || !strings.HasPrefix(e.Text, "clam: ") {
		t.Errorf("told by %v", e)
	}
	c.Feel(fakeclamd.Mood{Hang: true})
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	put(t, b, wanted(stored(t, b, "01JD0000000000000000000002", "hello too"), "b@acme.example"))
	for _, l := range waits(2) {
		if l.Scan.Tries != 0 {
			t.Errorf("a hanging engine blames %v", l)
		}
	}
	if got := bustest.Records(t, b, schemas.Queue("acme", 1)); len(got) != 0 {
		t.Fatalf("%d legs passed unscanned", len(got))
	}
	c.Feel(fakeclamd.Mood{})
	l.Step, l.DueMs = l.Step+1, 0
	put(t, b, l)
	if l := legOn(t, b, schemas.Queue("acme", 1), 1)[0]; l.Scan.Verdicts[0].Outcome != "clean" || l.Scan.Waits != 0 {
		t.Errorf("back: %v", l)
	}
	if err := s.Ready(); err != nil {
		t.Error(err)
	}
}

// Content that breaks the engine is poison after some tries, and nobody else's
// mail is.
func TestPoison(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, site(c.Addr(), "tries: 2"))
	start(t, b, Config{})
	l := wanted(stored(t, b, "01JD0000000000000000000001", fakeclamd.Poison), "a@acme.example")
	for n := range 2 { // the first time nobody knows that it isn't the engine
		put(t, b, l)
		l = legOn(t, b, schemas.DelayTopics()[0], n+1)[n]
		if int(l.Scan.Tries) != n || int(l.Scan.Waits) != n+1 {
			t.Fatalf("after %d: %v", n+1, l.Scan)
		}
		l.Step++
	}
	put(t, b, l)
	if q := legOn(t, b, schemas.Quarantine, 1)[0]; q.Scan.Finding != "poison" || q.Scan.Verdicts[0].Reason != "broken" {
		t.Errorf("%v", q.Scan)
	}
	put(t, b, wanted(stored(t, b, "01JD0000000000000000000002", "hello"), "b@acme.example"))
	legOn(t, b, schemas.Queue("acme", 1), 1)
}

// A leg whose content can't be read waits.
func TestUnreadableContent(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site(clam(t).Addr(), ""))
	l := wanted(stored(t, b, "01JD0000000000000000000001", "hello"), "a@acme.example")
	l.Content.Sha256 = make([]byte, 32)
	put(t, b, l)
	start(t, b, Config{})
	got := legOn(t, b, schemas.DelayTopics()[0], 1)[0]
	if !strings.Contains(got.Last.GetText(), "unreadable") || got.Scan.Tries != 0 {
		t.Errorf("%v", got)
	}
}

// A changed document makes another engine of the name; one that can't be made
// keeps its mail.
func TestEngineChanges(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, site(clam(t).Addr(), ""))
	startWith(t, b, Config{}, func(spec engine.Spec) (engine.Engine, error) {
		if spec.Address == "127.0.0.1:1" {
			return nil, errors.New("can't be made")
		}
		return engines.New(spec)
	})
	put(t, b, wanted(stored(t, b, "01JD0000000000000000000001", "hello"), "a@acme.example"))
	legOn(t, b, schemas.Queue("acme", 1), 1)
	apply(t, b, site("127.0.0.1:1", ""))
	l := wanted(stored(t, b, "01JD0000000000000000000002", "hello"), "a@acme.example")
	l.Directory = 2
	put(t, b, l)
	if l := legOn(t, b, schemas.DelayTopics()[0], 1)[0]; !strings.Contains(l.Last.Text, "trouble") {
		t.Errorf("%v", l)
	}
	apply(t, b, site(clam(t).Addr(), ""))
	l = wanted(stored(t, b, "01JD0000000000000000000003", "hello"), "a@acme.example")
	l.Directory = 3
	put(t, b, l)
	legOn(t, b, schemas.Queue("acme", 1), 2)
}

// A queue whose engine hangs, with far more legs than are held, leaves the
// others theirs.
func TestOthersPassASlowQueue(t *testing.T) {
	t.Parallel()
	slow, well, b := clam(t), clam(t), bustest.New(t)
	slow.Feel(fakeclamd.Mood{Hang: true})
	apply(t, b, strings.ReplaceAll(site(slow.Addr(), ""), "deadline: 5s", "deadline: 10m")+fmt.Sprintf(`
---
kind: engine
name: well
type: clamd
address: tcp://%s
---
kind: scan
name: quick
engines: well
---
kind: queue
name: quick
scan: quick
---
kind: tenant
name: quick
domains: [quick.example]
`, well.Addr()))
	ref := stored(t, b, "01JD0000000000000000000001", "hello")
	var flood []*pb.Leg
	for i := range 10 * heldOfPart {
		l := wanted(ref, "a@acme.example")
		l.Number, l.Content = uint32(i), stored(t, b, fmt.Sprintf("01JD000000000000000001%04d", i), fmt.Sprint(i))
		flood = append(flood, l)
	}
	put(t, b, flood...)
	s, stop := start(t, b, Config{Scans: 16})
	for s.slots.Load() < 14 { // the flood has all that it may
		time.Sleep(time.Millisecond)
	}
	for i := range 20 {
		l := wanted(ref, "b@quick.example")
		l.Queue, l.Number, l.Scan.Policy = "quick", uint32(i), "quick"
		put(t, b, l)
		legOn(t, b, schemas.Queue("quick", 1), i+1)
	}
	if n := len(bustest.Records(t, b, schemas.Queue("acme", 1))); n != 0 {
		t.Errorf("%d legs passed a hanging engine", n)
	}
	stop() // at once, though scans hang
}
