package delay

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/control"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// noneAgain is a world without orders to scan again.
func noneAgain(string, []*pb.Recipient) (uint64, bool) { return 0, false }

const scannedSite = `
kind: engine
name: clam
type: clamd
address: tcp://127.0.0.1:3310
---
kind: scan
name: p
engines: clam
---
kind: queue
name: acme
scan: p
lifetime: 4h
---
kind: queue
name: junk
lifetime: 4h
---
kind: tenant
name: acme
domains: [acme.example]
queue: acme
---
kind: route
name: all
match: {domain: "*"}
via: smtp://mx
`

// What was ordered to be scanned goes there, wherever it waits, and nothing
// else does.
func TestOrderedToBeScanned(t *testing.T) {
	const order = 7
	scanTopic, queue := schemas.Scan("acme", 1), schemas.Queue("acme", 1)
	for _, c := range []struct {
		name   string
		leg    func(*pb.Leg)
		world  func(*world)
		parked bool
		fate   fate
		topic  string
		obeyed bool
	}{
		{"long before it is due", func(l *pb.Leg) { l.DueMs = ms(3) }, nil, false, fateReleased, scanTopic, true},
		{"due", nil, nil, false, fateReleased, scanTopic, true},
		{"parked", func(l *pb.Leg) { l.ParkedMs = ms(1) }, func(w *world) { *w = w.whileSuspended(0.5, "acme") }, true, fateReleased, scanTopic, true},
		{"held at a quota", func(l *pb.Leg) { overQuota(l) }, nil, true, fateReleased, scanTopic, true},
		{"obeyed", func(l *pb.Leg) { l.Rescanned, l.DueMs = order, ms(3) }, nil, false, fateRound, "", true},
		{"obeyed an older one", func(l *pb.Leg) { l.Rescanned = order - 1 }, nil, false, fateReleased, scanTopic, true},
		{"exempt", func(l *pb.Leg) { l.Scan.State = pb.ScanState_SCAN_STATE_EXEMPT }, nil, false, fateReleased, queue, false},
		{"of other recipients", func(l *pb.Leg) { l.Recipients = l.Recipients[:1] }, nil, false, fateReleased, queue, false},
		{"past its lifetime", func(l *pb.Leg) { l.BornMs, l.Attempt, l.DueMs = ms(-5), 3, ms(0) }, nil, false, fateExpired, queue, false},
		{"redirected", func(l *pb.Leg) { l.Queue, l.Scan.Queue = "junk", "junk" }, nil, false, fateRerouted, "", true},
		{"elsewhere by now", func(l *pb.Leg) { l.Destination = "old.example" }, nil, false, fateRerouted, "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := inDirectory(t, scannedSite, 2)
			w.again = func(id string, of []*pb.Recipient) (uint64, bool) {
				return order, id == "01A" && of[len(of)-1].Number == 4
			}
			l := waiting()
			l.Destination, l.Route, l.StoppedMs = "acme.example", "all", 0
			l.Scan = &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "p", Changes: []*pb.HeaderChange{{Name: "X"}}}
			if c.leg != nil {
				c.leg(l)
			}
			if c.world != nil {
				c.world(&w)
			}
			held, before := schemas.Held(l), proto.CloneOf(l)
			m := release(l, c.parked, w)
			if m.fate != c.fate || c.topic != "" && m.topic != c.topic {
				t.Fatalf("%s to %s", m.fate, m.topic)
			}
			if got := l.Rescanned == order; got != c.obeyed {
				t.Errorf("rescanned by %d", l.Rescanned)
			}
			if m.topic == scanTopic && (l.Scan.State != pb.ScanState_SCAN_STATE_WANTED || len(l.Scan.Changes) > 0 || m.event.Text != schemas.FoundBad || schemas.Held(l) != held) {
				t.Errorf("%v, told by %v", l, m.event)
			}
			if m.reinject != nil && m.reinject.Rescanned != l.Rescanned {
				t.Errorf("put in again by order %d", m.reinject.Rescanned)
			}
			if c.name == "redirected" && (m.reinject.Scan.Queue != "" || m.reinject.Scan.State != pb.ScanState_SCAN_STATE_WANTED) {
				t.Errorf("%v", m.reinject.Scan)
			}
			if l.BornMs != before.BornMs {
				t.Error("its lifetime begins anew")
			}
		})
	}
	// Where there is no policy any more it waits on, and is looked at once.
	w := inDirectory(t, documents, 2)
	w.again = func(string, []*pb.Recipient) (uint64, bool) { return order, true }
	l := waiting()
	l.DueMs = ms(3)
	if m := release(l, false, w); m.fate != fateRound || l.Rescanned != order {
		t.Errorf("%s, %v", m.fate, l)
	}
}

// A policy that lets go what it held, in the end, doesn't let go what was found
// bad since.
func TestOutstayedAndFoundBad(t *testing.T) {
	snap := snapshot(t, scannedSite+"\n---\nkind: scan\nname: q\nengines: clam\nquarantine: {keep: 1h, then: release}\n")
	since := at(0)
	w := inDirectory(t, scannedSite, 2)
	w.decide, w.queue, w.scan, w.orders = snap.Decide, snap.Queue, snap.Scan, noOrder
	for _, ordered := range []bool{false, true} {
		w.again = func(string, []*pb.Recipient) (uint64, bool) { return 7, ordered }
		l := heldBack(since, time.Hour)
		l.Tenant, l.Queue, l.Destination, l.Scan.Policy = "acme", "acme", "acme.example", "q"
		l.BornMs, l.Generation = ms(0), 1
		l.Recipients = []*pb.Recipient{{Number: 0, Address: "b@acme.example"}}
		m := quarantined(l, w)[0]
		want := schemas.Queue("acme", 1)
		if ordered {
			want = schemas.Scan("acme", 1)
		}
		if m.topic != want {
			t.Errorf("ordered %v: %s to %s", ordered, m.fate, m.topic)
		}
	}
}

// An order reaches what waits, what is parked, and what is read only after it;
// a leg of the same message that it isn't about waits on.
func TestWaitingIsOrderedToBeScanned(t *testing.T) {
	t.Parallel()
	b := bustest.New(t)
	apply(t, b, scannedSite)
	id := mail.NewID(time.Now())
	leg := func(number uint32, wait time.Duration) *pb.Leg {
		l := fresh(id, wait)
		l.Number, l.Destination, l.Recipients = number, "acme.example", []*pb.Recipient{{Number: number, Address: "b@acme.example"}}
		l.Scan = &pb.Scan{State: pb.ScanState_SCAN_STATE_DONE, Policy: "p"}
		return l
	}
	order := func(job string, recipients ...uint32) {
		t.Helper()
		c := control.Command{Verb: control.ScanAgain, Actor: "scanner", Job: job, Held: []*pb.HeldLeg{{MessageId: id, Recipients: recipients}}}
		if _, err := control.Send(t.Context(), b, c); err != nil {
			t.Fatal(err)
		}
	}
	scanned := func(n int) map[uint32]bool {
		t.Helper()
		got := map[uint32]bool{}
		for _, r := range bustest.Want(t, b, schemas.Scan("acme", 1), n) {
			l := legOf(t, r)
			if got[l.Number] || l.Rescanned == 0 || l.Scan.State != pb.ScanState_SCAN_STATE_WANTED {
				t.Errorf("%v", l)
			}
			got[l.Number] = true
		}
		return got
	}
	bustest.Put(t, b, delayed(leg(1, time.Hour), leg(2, time.Hour))...)
	order("before", 1)
	start(t, b, Config{})
	if got := scanned(1); !got[1] {
		t.Fatalf("legs %v", got)
	}
	send(t, b, control.Suspend, control.Scope{Tenant: "acme"})
	parked := leg(3, 0)
	parked.ParkedMs, parked.DueMs = time.Now().UnixMilli(), 0
	bustest.Put(t, b, bus.NewWaiting(schemas.Parked, parked))
	order("amid", 3, 4)
	if got := scanned(2); !got[3] {
		t.Fatalf("legs %v", got)
	}
	bustest.Put(t, b, delayed(leg(4, time.Hour))...)
	if got := scanned(3); !got[4] || got[2] {
		t.Fatalf("legs %v", got)
	}
	if n := len(bustest.Records(t, b, schemas.Queue("acme", 1))); n != 0 {
		t.Errorf("%d legs went to be attempted", n)
	}
}
