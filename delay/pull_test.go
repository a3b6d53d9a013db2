package delay

import (
	"errors"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/control"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

var aWeek = kept{mail: 7 * 24 * time.Hour}

// record is a leg as it lies on a topic, appended at a time.
func record(topic string, l *pb.Leg, appended float64) bus.Record {
	r := bus.NewWaiting(topic, l)
	r.Time = at(appended)
	return r
}

func entryOf(topic string, change func(*pb.Leg)) bus.Entry {
	l := waiting()
	if change != nil {
		change(l)
	}
	return newEntry(record(topic, l, 1), l)
}

func TestEntry(t *testing.T) {
	const hour = "qstream.delay.1h.v1"
	for _, c := range []struct {
		name  string
		topic string
		leg   func(*pb.Leg)
		due   float64
	}{
		{"due within its tier", hour, func(l *pb.Leg) { l.DueMs = ms(1.75) }, 1.75},
		{"due after a round", hour, func(l *pb.Leg) { l.DueMs = ms(9) }, 2},
		{"due already", hour, func(l *pb.Leg) { l.DueMs = ms(0.5) }, 0.5},
		{"due never said", hour, func(l *pb.Leg) { l.DueMs = 0 }, -1},
		{"parked", schemas.Parked, nil, 1 + far.Hours()},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := entryOf(c.topic, c.leg)
			want := at(c.due)
			if c.due < 0 {
				want = time.UnixMilli(0)
			}
			if !e.Due.Equal(want) {
				t.Errorf("due %s, want %s", e.Due, want)
			}
		})
	}
	e := entryOf(hour, func(l *pb.Leg) { l.Generation, l.ReversePath, l.StoppedMs = 3, "", 3600_000 })
	if e.Queue != "acme.3" || queueName(e.Queue) != "acme" || e.Kind != kindBounce || !e.Born.Equal(at(1)) || !e.Content.Equal(at(0)) {
		t.Errorf("%+v", e)
	}
}

func TestPoison(t *testing.T) {
	for name, change := range map[string]func(*pb.Leg){
		"no id":         func(l *pb.Leg) { l.MessageId = "" },
		"no queue":      func(l *pb.Leg) { l.Queue = "" },
		"no recipients": func(l *pb.Leg) { l.Recipients = nil },
		"no content":    func(l *pb.Leg) { l.Content = nil },
	} {
		l := waiting()
		change(l)
		if _, err := bus.ReadLeg(record(schemas.Parked, l, 0)); !errors.Is(err, bus.ErrPoison) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bus.ReadLeg(bus.Record{Value: []byte("\xff")}); !errors.Is(err, bus.ErrPoison) {
		t.Errorf("garbage: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	good, err := proto.Marshal(waiting())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, value []byte) {
		r := bus.Record{Topic: "qstream.delay.1m.v1", Value: value}
		l, err := bus.ReadLeg(r)
		if err != nil {
			return
		}
		newEntry(r, l)
		release(l, false, inDirectory(t, documents, 1)).records()
	})
}

// never is the predicate of held legs that nobody let go on.
func never(string, string, string, time.Time) bool { return false }

func TestPulls(t *testing.T) {
	s, after := snapshot(t, documents), snapshot(t, documentsMoved)
	nobody := inDirectory(t, documents, 0).suspended
	acme := inDirectory(t, documents, 0).whileSuspended(0, "acme", "held").suspended
	const tier = "qstream.delay.1h.v1"
	overQuota := func(l *pb.Leg) { l.Recipients[0].Held = true }
	before := func(days float64) resumed {
		return func(_, _, _ string, born time.Time) bool { return born.Before(at(days)) }
	}
	held := func(l *pb.Leg) { l.Tenant, l.Queue = "held", "held" }
	for _, c := range []struct {
		name  string
		match func(bus.Entry) bool
		entry bus.Entry
		want  bool
	}{
		{"freed: nothing suspended", freed(nobody, never, s.Queue, at(2)), entryOf(schemas.Parked, nil), true},
		{"freed: held at a quota", freed(nobody, never, s.Queue, at(200)), entryOf(schemas.Parked, overQuota), false},
		{"freed: held, beyond the hold expiry", freed(nobody, never, s.Queue, at(13)), entryOf(schemas.Parked, func(l *pb.Leg) { held(l); overQuota(l) }), true},
		{"freed: let go on", freed(nobody, before(1), s.Queue, at(2)), entryOf(schemas.Parked, overQuota), true},
		{"freed: held after others were let go on", freed(nobody, before(-1), s.Queue, at(2)), entryOf(schemas.Parked, overQuota), false},
		{"freed: let go on, suspended", freed(acme, before(1), s.Queue, at(2)), entryOf(schemas.Parked, overQuota), false},
		{"freed: still suspended", freed(acme, never, s.Queue, at(200)), entryOf(schemas.Parked, nil), false},
		{"freed: before the hold expiry", freed(acme, never, s.Queue, at(12.9)), entryOf(schemas.Parked, held), false},
		{"freed: beyond the hold expiry", freed(acme, never, s.Queue, at(13)), entryOf(schemas.Parked, held), true},
		{"freed: in a tier", freed(nobody, never, s.Queue, at(2)), entryOf(tier, nil), false},

		{"outlived", outlived(nobody, s.Queue, at(10)), entryOf(tier, nil), true},
		{"outlived: in time", outlived(nobody, s.Queue, at(9.9)), entryOf(tier, nil), false},
		{"outlived: stood still", outlived(nobody, s.Queue, at(10)), entryOf(tier, func(l *pb.Leg) { l.StoppedMs = 3600_000 }), false},
		{"outlived: a bounce", outlived(nobody, s.Queue, at(2)), entryOf(tier, func(l *pb.Leg) { l.ReversePath = "" }), true},
		{"outlived: suspended", outlived(acme, s.Queue, at(10)), entryOf(tier, nil), false},
		{"outlived: parked", outlived(nobody, s.Queue, at(10)), entryOf(schemas.Parked, nil), false},

		{"moved: as it was", moved(s, s), entryOf(schemas.Parked, nil), false},
		{"moved: unconcerned", moved(s, after), entryOf(schemas.Parked, nil), false},
		{"moved: new owner", moved(s, after), entryOf(schemas.Parked, func(l *pb.Leg) { l.Destination = "x.acme.example" }), true},
		{"moved: in a tier", moved(s, after), entryOf(tier, func(l *pb.Leg) { l.Destination = "x.acme.example" }), false},
		{"moved: queue gone", moved(after, s), entryOf(schemas.Parked, func(l *pb.Leg) { l.Tenant = "other" }), true},

		{"unsafe", unsafe(aWeek, at(6*24), 1), entryOf(tier, nil), true},
		{"unsafe: not yet", unsafe(aWeek, at(6*24-1), 1), entryOf(tier, nil), false},
		{"unsafe: enough for now", unsafe(aWeek, at(6*24), 0), entryOf(tier, nil), false},

		{"unsafe: on hold", unsafe(aWeek, at(1e4), 1), entryOf(tier, func(l *pb.Leg) { l.Content.Topic = schemas.Hold }), false},
		{"unsafe: kept for ever", unsafe(kept{}, at(1e4), 1), entryOf(tier, nil), false},
		{"unsafe: kept for hours", unsafe(kept{mail: 4 * time.Hour}, at(3), 1), entryOf(tier, nil), true},
		{"unsafe: kept for hours, not yet", unsafe(kept{mail: 4 * time.Hour}, at(2.9), 1), entryOf(tier, nil), false},

		{"flush everything", flush(control.Scope{}), entryOf(tier, nil), true},
		{"flush a tenant", flush(control.Scope{Tenant: "acme"}), entryOf(tier, nil), true},
		{"flush another tenant", flush(control.Scope{Tenant: "blue"}), entryOf(tier, nil), false},
		{"flush a queue of any generation", flush(control.Scope{Queue: "acme"}), entryOf(tier, func(l *pb.Leg) { l.Generation = 2 }), true},
		{"flush a destination", flush(control.Scope{Destination: "acme.example"}), entryOf(tier, nil), true},
		{"flush a message", flush(control.Scope{MessageID: "01A"}), entryOf(tier, nil), true},
		{"flush: all fields must match", flush(control.Scope{Tenant: "acme", MessageID: "01B"}), entryOf(tier, nil), false},
		{"flush: parked", flush(control.Scope{}), entryOf(schemas.Parked, nil), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.match(c.entry); got != c.want {
				t.Errorf("got %v for %+v", got, c.entry)
			}
		})
	}
}

func TestOverdue(t *testing.T) {
	w := inDirectory(t, documents, 0)
	for _, c := range []struct {
		name string
		now  float64
		s    suspended
		want bool
	}{
		{"in time", 9, w.suspended, false},
		{"within the grace", 10 + 24./3600, w.suspended, false},
		{"beyond the grace", 10 + 26./3600, w.suspended, true},
		{"suspended before its end", 20, w.whileSuspended(9, "acme").suspended, false},
		{"suspended after its end", 20, w.whileSuspended(11, "acme").suspended, true},
	} {
		if got := isOverdue(waiting(), w.queue, c.s, at(c.now)); got != c.want {
			t.Errorf("%s: got %v", c.name, got)
		}
	}
}

func TestGroupsNameEachTopic(t *testing.T) {
	topics := groups(snapshot(t, documents))[schemas.DeliverGroup(schemas.DefaultPool)]
	if len(topics) != 3 {
		t.Errorf("want acme, held and the implicit default, got %v", topics)
	}
	scans := groups(snapshot(t, scanSite))[schemas.ScannerGroup(schemas.DefaultPool)]
	if len(scans) != 1 || scans[0] != schemas.Scan("acme", 1) {
		t.Errorf("scan topics are %v", scans)
	}
}

// overdueIn is the gauge's value.
func (m *metrics) overdueIn(queue string) float64 {
	var out dto.Metric
	if err := m.overdue.WithLabelValues(queue).Write(&out); err != nil {
		return -1
	}
	return out.GetGauge().GetValue()
}

// An alarm is promised within 60 s; the rest is for reading what waits.
func TestOverdueIsToldInTime(t *testing.T) {
	c, err := Config{}.complete()
	if err != nil {
		t.Fatal(err)
	}
	if within := grace + c.Watch; within > 55*time.Second {
		t.Errorf("an alarm may take %v", within)
	}
}
