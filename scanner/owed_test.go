package scanner

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakeclamd"
)

// owing is a directory in which a rule's policy marks what it finds; free has
// no policy of its own.
func owing(addr, rules string) string {
	return site(addr, rules) + `
---
kind: scan
name: r
engines: clam
rules: {on: malware, action: tag, header: "X-Edge: bad"}
---
kind: tenant
name: free
domains: [free.example]
---
kind: rules
name: smtp
scan: {policy: r}
`
}

func owed(ref *pb.ContentRef, tenant, policy string) *pb.Leg {
	l := wanted(ref, "b@"+tenant+".example")
	l.Queue, l.Scan = tenant, schemas.Owed(policy, nil)
	return l
}

// names are those of the fields that are changed.
func names(l *pb.Leg) (all []string) {
	for _, c := range l.Scan.Changes {
		all = append(all, c.Name)
	}
	return all
}

// What the edge has left is scanned by its rule's policy, also where there is
// no other, and then by the leg's own; the changes of both are made.
func TestOwedIsScannedFirst(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, owing(clam(t).Addr(), `rules: {on: malware, action: tag, header: "X-Own: bad"}`))
	bad := stored(t, b, "01JD0000000000000000000001", fakeclamd.Eicar)
	put(t, b, owed(bad, "free", "r"), owed(bad, "acme", "r"))
	s, _ := start(t, b, Config{})
	l := legOn(t, b, schemas.Queue("free", 1), 1)[0]
	if l.Step != 2 || l.Scan.State != pb.ScanState_SCAN_STATE_DONE || l.Scan.Policy != "r" || !l.Scan.OfRule || l.Scan.Owed != "" || len(names(l)) != 3 || schemas.WantsScan("", l.Scan) {
		t.Errorf("without a policy of its own: %v", l)
	}
	if _, limit, _ := s.lane(owed(bad, "free", "r")); limit != s.deps.Directory.Snapshot().Scan("r").Concurrency || limit < 2 {
		t.Errorf("%d of them at once", limit)
	}
	l = legOn(t, b, schemas.Queue("acme", 1), 1)[0]
	if l.Step != 3 || l.Scan.State != pb.ScanState_SCAN_STATE_DONE || l.Scan.Policy != "p" || l.Scan.OfRule || l.Scan.Before.GetPolicy() != "r" {
		t.Errorf("with a policy of its own: %v", l)
	}
	if n := names(l); len(n) != 6 || n[2] != "X-Edge" || n[5] != "X-Own" || schemas.WantsScan("p", l.Scan) || !schemas.WantsScan("o", l.Scan) {
		t.Errorf("changes %v", n)
	}
	told := bustest.WantMatch(t, b, schemas.Events, 3, func(r bus.Record) bool {
		e := &pb.Event{}
		return proto.Unmarshal(r.Value, e) == nil && e.Type == pb.EventType_EVENT_TYPE_SCANNED
	})
	again := 0
	for _, r := range told {
		e := &pb.Event{}
		if err := proto.Unmarshal(r.Value, e); err != nil {
			t.Fatal(err)
		}
		if e.Scan.State == pb.ScanState_SCAN_STATE_WANTED {
			again++
			if e.Queue != "acme" || e.Scan.Policy != "r" || e.Step != 2 {
				t.Errorf("told as %v", e)
			}
		}
	}
	if again != 1 {
		t.Errorf("%d events tell of a leg that is scanned again", again)
	}
}

// An engine that is down keeps what is owed: the leg waits, and is scanned by the
// rule's policy when it is back. A policy that is gone is owed nothing.
func TestOwedWaits(t *testing.T) {
	t.Parallel()
	c, b := clam(t), bustest.New(t)
	apply(t, b, owing(c.Addr(), ""))
	clean := stored(t, b, "01JD0000000000000000000001", "hello")
	c.Down()
	put(t, b, owed(clean, "free", "r"))
	_, stop := start(t, b, Config{})
	l := legOn(t, b, schemas.DelayTopics()[0], 1)[0]
	if l.Scan.Owed != "r" || l.Scan.Policy != "r" || l.Scan.Waits != 1 {
		t.Errorf("%v", l.Scan)
	}
	stop()
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	if topic := schemas.LegTopic("", l); topic != schemas.Scan("free", 1) || l.Scan.Waits != 1 {
		t.Errorf("released to %s, %v", topic, l.Scan)
	}
	l.Step++
	gone := owed(clean, "free", "nowhere")
	gone.Number = 7
	put(t, b, l, gone)
	start(t, b, Config{})
	for _, l := range legOn(t, b, schemas.Queue("free", 1), 2) {
		if done := l.Scan.GetPolicy() == "r" && l.Scan.OfRule; done != (l.Number == 0) || l.Number == 7 && l.Scan != nil {
			t.Errorf("leg %d: %v", l.Number, l.Scan)
		}
	}
}

// What the leg's own policy holds keeps what the rule's wants changed, and a
// shadow is compared with the leg's own alone.
func TestOwedAndHeld(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	text := strings.Replace(owing(clam(t).Addr(), ""), "engines: clam\nconcurrency: 100\n", "engines: clam\nconcurrency: 100\nshadow: o\n", 1)
	apply(t, b, text+"---\nkind: scan\nname: o\nengines: []\n")
	put(t, b, owed(stored(t, b, "01JD0000000000000000000001", fakeclamd.Eicar), "acme", "r"))
	_, stop := start(t, b, Config{})
	l := legOn(t, b, schemas.Quarantine, 1)[0]
	if n := names(l); len(n) != 3 || n[2] != "X-Edge" {
		t.Errorf("changes %v", n)
	}
	stop()
	if g := compared(t, b, 1); g.Policy != "p" || g.Compared+g.Missed != 1 {
		t.Errorf("%+v", g)
	}
}
