package audit

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"qstream/bus"
	"qstream/ledger/audit"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/test/fakemx"
	"qstream/test/rig"
)

// TestDeleted puts mail into every place, deletes one record from each topic
// in turn, and sees exactly its message named. Put back, it balances again.
func TestDeleted(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, broker string) {
		s := start(t, broker, "1h",
			fakemx.Rule{Line: "RCPT TO:<user@later.example>", Reply: "450 4.2.0 later"},
			fakemx.Rule{Line: "RCPT TO:<user@bad.example>", Reply: "550 5.1.1 nobody"})
		ids := s.everywhere()
		r := s.balanced("mail is everywhere")
		for _, place := range []string{audit.AtReceived, audit.AtReinject, audit.AtQueue, audit.AtDelay, audit.AtParked, audit.AtDeadletter} {
			if r.Waiting[place] != 1 {
				t.Errorf("%d wait at %s", r.Waiting[place], place)
			}
		}
		for _, c := range []struct{ place, topic, address string }{
			{audit.AtReceived, schemas.Received, "user@fine.example"},
			{audit.AtReinject, schemas.Reinject, "sender@client.example"},
			{audit.AtQueue, schemas.Queue("kept", 1), "user@kept.example"},
			{audit.AtDelay, "", "user@later.example"},
			{audit.AtParked, schemas.Parked, "user@held.example"},
			{audit.AtDeadletter, schemas.Deadletter, "user@fine.example"},
		} {
			s.deleteOne(c.place, c.topic, ids[c.place], c.address)
		}
	})
}

// everywhere puts one message into each place, and stops who would move it.
func (s *site) everywhere() map[string]string {
	s.t.Helper()
	ids := map[string]string{}
	for range 5 {
		s.send("user@fine.example")
	}
	s.verb("queue", "suspend", "--tenant", "held")
	ids[audit.AtParked] = s.send("user@held.example")
	ids[audit.AtDelay] = s.send("user@later.example")
	ids[audit.AtQueue] = s.send("user@kept.example")
	ids[audit.AtDeadletter] = s.poison()
	s.until("delivered, parked, deferred, dead", func(r *audit.Report) bool {
		return r.Total.Delivered == 5 && r.Waiting[audit.AtParked] == 1 && r.Waiting[audit.AtDelay] == 1 && r.Waiting[audit.AtDeadletter] == 1
	})
	s.stop("deliver")
	bad := s.send("user@bad.example")
	s.until("routed", func(r *audit.Report) bool { return r.Waiting[audit.AtQueue] == 2 })
	s.stop("router")
	must(s.t, s.begin("deliver"))
	s.until("bounced", func(r *audit.Report) bool { return r.Waiting[audit.AtReinject] == 1 })
	s.stop("deliver")
	s.stop("delay")
	ids[audit.AtReinject] = s.childOf(bad)
	ids[audit.AtReceived] = s.send("user@fine.example")
	return ids
}

// poison publishes a received record that no router can read to its end: it
// has no content. It becomes a dead record.
func (s *site) poison() string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	id := mail.NewID(time.Now())
	r := bus.NewReceived(&pb.Received{Id: id, Envelope: &pb.Envelope{Recipients: []*pb.Recipient{{Address: "user@fine.example"}}}})
	must(s.t, s.bus.Publish(ctx, &r))
	return id
}

// childOf is the id of the report about a message.
func (s *site) childOf(id string) (child string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	must(s.t, s.bus.Read(ctx, []string{schemas.Reinject}, bus.Start{}, func(r bus.Record) error {
		m, err := schemas.Decode(r.Topic, "", r.Value)
		if d, ok := m.(*pb.Reinject); err == nil && ok && d.ParentId == id {
			child = d.Id
		}
		return nil
	}))
	if child == "" {
		s.t.Fatalf("no report about %s", id)
	}
	return child
}

// deleteOne trims a topic up to the record of a message, and puts it back.
func (s *site) deleteOne(place, topic, id, address string) {
	t := s.t
	t.Helper()
	s.balanced("before the deletion at " + place)
	if topic == "" {
		topic = s.delayed(id)
	}
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	gone := s.at(topic, id)
	must(t, s.bus.Trim(ctx, topic, map[int32]int64{gone.Partition: gone.Offset + 1}))
	r, code := s.audit()
	if code != 1 || r.Balanced || len(r.Findings) != 1 {
		t.Fatalf("after the deletion at %s: exit %d: %s", place, code, show(r))
	}
	f := r.Findings[0]
	if f.What != audit.Missing || f.MessageID != id || f.Recipient != 0 || f.Address != address && place != audit.AtReinject {
		t.Errorf("after the deletion at %s: %+v", place, f)
	}
	if !strings.HasPrefix(f.LastSeen, place) && place != audit.AtDeadletter {
		t.Errorf("last seen at %s, was at %s", f.LastSeen, place)
	}
	wantGap := place != audit.AtDeadletter // no group reads that
	if wantGap != (len(r.Gaps) == 1 && r.Gaps[0].Topic == topic && r.Gaps[0].Partition == gone.Partition && r.Gaps[0].Start == gone.Offset+1) {
		t.Errorf("gaps after the deletion at %s: %+v", place, r.Gaps)
	}
	out, errs, _ := s.Verb("audit", "--api", "http://"+s.Procs["ledger"].HTTP)
	t.Logf("%s%s", out, errs)
	if !strings.Contains(string(out), "missing: "+id) {
		t.Errorf("the text doesn't name %s", id)
	}
	if place == audit.AtDeadletter {
		s.verb("audit", "--api", "http://"+s.Procs["ledger"].HTTP, "--settle", id, "--reason", "sent again")
		if r := s.balanced("after it was settled"); r.Total.Discarded != 1 {
			t.Errorf("settled: %+v", r.Total)
		}
		return
	}
	again := bus.Record{Topic: topic, Partition: bus.AnyPartition, Key: gone.Key, Value: gone.Value, Headers: gone.Headers}
	must(t, s.bus.Publish(ctx, &again))
	s.verb("topics", "resume")
}

// delayed is the tier in which a message waits.
func (s *site) delayed(id string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	topic := ""
	must(s.t, s.bus.Read(ctx, schemas.DelayTopics(), bus.Start{}, func(r bus.Record) error {
		if strings.Contains(fmt.Sprint(string(r.Value)), id) {
			topic = r.Topic
		}
		return nil
	}))
	return topic
}
