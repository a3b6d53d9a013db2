package scanner

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/scanner/compare"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakeclamd"
)

// shadowed is site's directory with a policy "next" beside p in acme's queue.
func shadowed(addr, live, next string) string {
	return strings.Replace(site(addr, ""), "engines: clam\nconcurrency: 100\n", live+"\nconcurrency: 100\nshadow: next\n", 1) + "---\nkind: scan\nname: next\n" + next + "\n"
}

// compared is the report once so many recipients are in it.
func compared(t testing.TB, b *bus.Bus, recipients uint64) compare.Group {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		r, err := compare.Read(t.Context(), b, compare.Selection{Examples: 100})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Totals) == 1 && r.Totals[0].Compared+r.Totals[0].Missed >= recipients {
			return r.Totals[0]
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d recipients wanted: %+v", recipients, r)
		}
	}
}

// putLegs puts n legs of messages of their own, whose numbers begin at first.
func putLegs(t testing.TB, b *bus.Bus, first, n int, body func(int) string) {
	t.Helper()
	for i := first; i < first+n; i++ {
		put(t, b, wanted(stored(t, b, fmt.Sprintf("01JD0000000000000000%06d", i), body(i)), "a@acme.example"))
	}
}

// A shadow that finds more changes nothing, and the report tells all of it.
func TestShadow(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, shadowed(c.Addr(), "engines: []", "engines: clam"))
	_, stop := start(t, b, Config{Tell: 20 * time.Millisecond})
	putLegs(t, b, 0, 6, func(i int) string {
		if i%3 == 0 {
			return fakeclamd.Eicar
		}
		return fmt.Sprint("hello ", i)
	})
	for _, l := range legOn(t, b, schemas.Queue("acme", 1), 6) {
		if l.Scan.Policy != "p" || l.Scan.Action != "pass" || len(l.Scan.Changes)+len(l.Scan.Verdicts) > 0 || l.Step != 2 {
			t.Errorf("the shadow changed %v", l)
		}
	}
	g := compared(t, b, 6)
	if d := cmp.Diff([]compare.Cell{{Action: "pass", Shadow: "pass", Recipients: 4}, {Action: "pass", Shadow: "quarantine", Recipients: 2}}, g.Cells); d != "" {
		t.Error(d)
	}
	if g.Policy != "p" || g.Shadow != "next" || g.Differing != 2 || g.Missed != 0 || len(g.Engines) != 1 || !g.Engines[0].Shadow || g.Engines[0].Scans != 5 {
		t.Errorf("%+v", g) // one of two with the same content is from memory
	}
	e := eventOf(t, b, pb.EventType_EVENT_TYPE_COMPARED)
	if p := e.Comparison.Partings[0]; p.ShadowFinding != "malware" || p.Finding != "" || e.Outcomes[0].Address != "a@acme.example" || e.Step != 2 ||
		e.Comparison.ShadowVerdicts[0].Name != "Eicar-Test-Signature" {
		t.Errorf("%v", e)
	}
	// What was counted last is told at a stop.
	stop()
	_, stop = start(t, b, Config{Tell: time.Hour})
	putLegs(t, b, 6, 1, func(int) string { return "last" })
	legOn(t, b, schemas.Queue("acme", 1), 7)
	stop()
	if g := compared(t, b, 7); g.Compared+g.Missed != 7 {
		t.Errorf("%+v", g)
	}
}

// An engine of both is asked once; recipients may part in several ways.
func TestShadowSharesVerdicts(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	text := shadowed(c.Addr(), "engines: clam\nrules: {on: malware, action: redirect, queue: junk}", `engines: clam
rules:
  - {on: malware, domains: [other.acme.example], action: forward, address: abuse@hub.example}
  - {on: malware, action: redirect, queue: junk}`)
	apply(t, b, strings.NewReplacer("[acme.example]", "[acme.example, .acme.example]", "smtp://mx", "smtp://mx.example:25").Replace(text))
	l := wanted(stored(t, b, "01JD0000000000000000000001", fakeclamd.Eicar), "a@acme.example")
	l.Destination, l.Recipients = "mx.example:25", append(l.Recipients, &pb.Recipient{Number: 1, Address: "b@other.acme.example"})
	put(t, b, l)
	start(t, b, Config{Tell: 20 * time.Millisecond})
	legOn(t, b, schemas.Queue("junk", 1), 1)
	g := compared(t, b, 2)
	if d := cmp.Diff([]compare.Cell{
		{Action: "redirect junk", Shadow: "forward abuse@hub.example", Recipients: 1}, {Action: "redirect junk", Shadow: "redirect junk", Recipients: 1},
	}, g.Cells); d != "" {
		t.Error(d)
	}
	if all, _ := c.Scans(); all != 1 || len(g.Examples) != 1 || g.Examples[0].Recipient != "b@other.acme.example" || len(g.Engines) != 1 || g.Engines[0].Shadow {
		t.Errorf("%d scans, %+v", all, g)
	}
}

// A shadow whose engine hangs is full at once, and live mail goes on: nothing
// of it waits, nothing takes its slots, and what wasn't compared is counted.
func TestHangingShadow(t *testing.T) {
	t.Parallel()
	slow, well, b := clam(t), clam(t), bustest.New(t)
	slow.Feel(fakeclamd.Mood{Hang: true})
	// The queue is acme's alone: nothing spills that waits for the few slots.
	text := strings.Replace(shadowed(well.Addr(), "engines: clam", "engines: hung\nconcurrency: 100"), "domains: [beta.example]\nqueue: acme\n", "domains: [beta.example]\n", 1)
	apply(t, b, text+
		fmt.Sprintf("---\nkind: engine\nname: hung\ntype: clamd\naddress: tcp://%s\ndeadline: 10m\npatience: 10m\nconcurrency: 100\n", slow.Addr()))
	s, stop := start(t, b, Config{Scans: 2, Shadows: 3, Tell: 20 * time.Millisecond})
	const n = 300
	putLegs(t, b, 0, n, func(i int) string { return fmt.Sprint("hello ", i) })
	for _, l := range legOn(t, b, schemas.Queue("acme", 1), n) {
		if l.Scan.Action != "pass" || l.Scan.Verdicts[0].Engine != "clam" || len(l.Scan.Verdicts) != 1 {
			t.Fatalf("%v", l.Scan)
		}
	}
	for s.slots.Load() > 0 { // of live mail
		time.Sleep(time.Millisecond)
	}
	if load := s.shadow.slots.Load(); load > 3 {
		t.Errorf("%d compared at once", load)
	}
	s.shadow.mu.Lock()
	held := s.shadow.held
	s.shadow.mu.Unlock()
	if held > 3*shadowsAtHand {
		t.Errorf("%d legs are at hand", held)
	}
	if g := compared(t, b, uint64(n-held)); g.Compared != 0 || g.Missed != uint64(n-held) {
		t.Errorf("%d held, %+v", held, g)
	}
	stop() // at once, though scans hang
	if g := compared(t, b, n); g.Compared != 0 || g.Missed != n || len(g.Examples) > 0 {
		t.Errorf("%+v", g)
	}
}

// A shadow's engine that is down, or that its mail breaks, is nobody else's
// trouble, not even of mail that the same engine decides about.
func TestShadowInTrouble(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, shadowed(c.Addr(), "engines: []", "engines: clam"))
	s, _ := start(t, b, Config{Tell: 20 * time.Millisecond})
	const n = 10 // twice the failures after which an engine is left alone
	putLegs(t, b, 0, n, func(i int) string { return fmt.Sprint(fakeclamd.Poison, i) })
	legOn(t, b, schemas.Queue("acme", 1), n)
	if g := compared(t, b, n); len(g.Cells) != 1 || g.Cells[0] != (compare.Cell{Action: "pass", Shadow: "wait", Recipients: n}) || g.Examples[0].ShadowFinding != "down" {
		t.Errorf("%+v", g)
	}
	l := wanted(stored(t, b, "01JD0000000000000001000000", "hello"), "b@beta.example")
	l.Scan.Policy = "q"
	put(t, b, l)
	legOn(t, b, schemas.Queue("acme", 1), n+1)
	live, done := s.members.Use(s.deps.Directory.Snapshot(), "clam")
	defer done()
	other, done := s.shadow.members.Use(s.deps.Directory.Snapshot(), "clam")
	defer done()
	if live.IsDown() || live == other {
		t.Error("live mail's engine is blamed")
	}
	// And one that isn't there at all.
	c.Down()
	putLegs(t, b, n, 3, func(i int) string { return fmt.Sprint("hello ", i) })
	legOn(t, b, schemas.Queue("acme", 1), n+4)
	compared(t, b, n+3)
	if got := bustest.Records(t, b, schemas.DelayTopics()[0]); len(got) != 0 {
		t.Errorf("%d legs wait for a shadow", len(got))
	}
}
