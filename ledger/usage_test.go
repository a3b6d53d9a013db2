package ledger

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// told is what the newest ledger told last, by tenant and user, and as of
// when; nil before it told everything.
func (r *rig) told() (map[string]*pb.Usage, time.Time) {
	r.t.Helper()
	all, writer, asOf := map[string]map[string]*pb.Usage{}, "", int64(0)
	err := r.bus.Read(r.t.Context(), []string{schemas.Usage}, bus.Start{}, func(rec bus.Record) error {
		var u pb.Usage
		if err := proto.Unmarshal(rec.Value, &u); err != nil {
			return err
		}
		if u.Kind == pb.UsageKind_USAGE_KIND_LEDGER {
			writer, asOf = u.Writer, u.AtMs
			return nil
		}
		if all[u.Writer] == nil {
			all[u.Writer] = map[string]*pb.Usage{}
		}
		all[u.Writer][u.Tenant+" "+u.User] = &u
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all[writer], time.UnixMilli(asOf)
}

// by are the events of a message that a user handed in.
func by(user string, rs []bus.Record) []bus.Record {
	var e pb.Event
	mustEvent(rs[0], &e)
	e.Session.AuthUser = user
	rs[0] = bus.NewEvent(&e)
	return rs
}

// fresh are the events of a message that was routed and not attempted yet.
func fresh(i int, at time.Time, reversePath string) []bus.Record {
	rs := life(i, at)[:2]
	var e pb.Event
	mustEvent(rs[1], &e)
	e.Attempt, e.ReversePath = 0, reversePath
	rs[1] = bus.NewEvent(&e)
	return rs
}

// TestTellsWhatWaits: the edges hear what waits of who has a quota, and when
// nothing does any more, from a ledger that starts again, too.
func TestTellsWhatWaits(t *testing.T) {
	r := newRig(t)
	now := time.Now()
	docs, err := directory.Parse(directory.File{Name: "t.yaml", Data: []byte(
		"kind: tenant\nname: acme\nquota: {}\n---\nkind: tenant\nname: free\n---\nkind: credential\nname: ann@acme.example\ntenant: acme\nquota: {}\n")})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		bustest.Put(t, r.bus, deferred(i, now.Add(-time.Hour))...)
	}
	bustest.Put(t, r.bus, by("ann@acme.example", deferred(4, now))...)
	bustest.Put(t, r.bus, by("bob@acme.example", deferred(5, now))...)
	waiting := fresh(6, now.Add(-time.Minute), "ann@sender.example")
	bustest.Put(t, r.bus, waiting...)
	bustest.Put(t, r.bus, fresh(7, now.Add(-time.Hour), "")...)
	r.start(Config{})
	r.ready(true)
	if told, _ := r.told(); told != nil {
		t.Error("told although nobody has a quota")
	}
	if _, err := directory.Apply(t.Context(), r.bus, directory.Change{Documents: docs}, directory.Options{}); err != nil {
		t.Fatal(err)
	}
	is := func(what string, acme, ann, size int64, oldest time.Time) {
		t.Helper()
		eventually(t, what, func() bool {
			told, asOf := r.told()
			a := told["acme "]
			return a != nil && a.Messages == acme && a.Recipients == acme && a.Bytes == acme*size && told["acme bob@acme.example"] == nil &&
				a.OldestMs/1000*1000 == a.OldestMs && (oldest.IsZero() && a.OldestMs == 0 || a.OldestMs/1000 == oldest.Unix()) &&
				told["acme ann@acme.example"].GetMessages() == ann && !asOf.Before(now)
		})
	}
	is("all that waits", 6, 1, 10_240, now.Add(-time.Minute))
	var e pb.Event
	mustEvent(waiting[1], &e)
	e.Type, e.Id, e.Attempt = pb.EventType_EVENT_TYPE_DELIVERED, "", 1
	bustest.Put(t, r.bus, bus.NewEvent(&e))
	is("one less, all were tried", 5, 1, 10_240, time.Time{})
	r.stop()
	now = time.Now()
	r.start(Config{})
	is("the same of a ledger that started again", 5, 1, 10_240, time.Time{})
}
