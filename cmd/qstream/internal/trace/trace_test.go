package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	pb "qstream/schemas/qstream/v1"
)

var start = time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)

func after(d time.Duration) int64 { return start.Add(d).UnixMilli() }

func to(number uint32, address string, s *pb.Status) *pb.Outcome {
	return &pb.Outcome{Number: number, Address: address, Status: s}
}

// life is a message to two recipients: one is deferred, then bounced, which
// makes a DSN; the other is delivered. Its replies are hostile.
func life() []*pb.Event {
	rcpt := []*pb.Outcome{to(0, "b@acme.example", nil), to(1, "c@acme.example", nil)}
	common := func(e *pb.Event) *pb.Event {
		e.MessageId, e.Tenant, e.Queue, e.Destination, e.Route = "01A", "acme", "acme", "acme.example", "all"
		e.ReversePath, e.HeaderMessageId, e.Size = "a@blue.example", "<m1@blue.example>", 1200
		return e
	}
	later, gone := &pb.Status{Code: 451, Enhanced: "4.7.1", Text: "later\n\x1b[31mred"}, &pb.Status{Code: 550, Enhanced: "5.1.1", Text: "gone"}
	return []*pb.Event{
		{Id: "1", Type: pb.EventType_EVENT_TYPE_ACCEPTED, MessageId: "01A", AtMs: after(0), Outcomes: rcpt,
			ReversePath: "a@blue.example", HeaderMessageId: "<m1@blue.example>", Size: 1200,
			Session: &pb.Session{Protocol: pb.Protocol_PROTOCOL_SMTP, ClientIp: "192.0.2.1", ClientName: "client.example", Helo: "cl\x07ient", Edge: "mx1.example"}},
		common(&pb.Event{Id: "2", Type: pb.EventType_EVENT_TYPE_ROUTED, AtMs: after(20 * time.Millisecond), Step: 1, Outcomes: rcpt}),
		common(&pb.Event{Id: "3", Type: pb.EventType_EVENT_TYPE_ATTEMPTED, AtMs: after(time.Second), Step: 1, Attempt: 1,
			Host: "mx.acme.example", HostIp: "192.0.2.9", TlsVersion: "TLS1.3", TookMs: 300}),
		common(&pb.Event{Id: "4", Type: pb.EventType_EVENT_TYPE_DELIVERED, AtMs: after(time.Second), Step: 1, Attempt: 1, Host: "mx.acme.example", HostIp: "192.0.2.9",
			Outcomes: []*pb.Outcome{to(1, "c@acme.example", &pb.Status{Code: 250, Enhanced: "2.0.0", Text: "ok"})}}),
		common(&pb.Event{Id: "5", Type: pb.EventType_EVENT_TYPE_DEFERRED, AtMs: after(time.Second), Step: 1, Attempt: 1, DueMs: after(time.Minute), Reason: pb.Reason_REASON_DEFERRED,
			Outcomes: []*pb.Outcome{to(0, "b@acme.example", later)}}),
		common(&pb.Event{Id: "6", Type: pb.EventType_EVENT_TYPE_RELEASED, AtMs: after(time.Minute), Step: 3, Outcomes: rcpt[:1]}),
		common(&pb.Event{Id: "6", Type: pb.EventType_EVENT_TYPE_RELEASED, AtMs: after(time.Minute), Step: 3, Outcomes: rcpt[:1]}),
		common(&pb.Event{Id: "7", Type: pb.EventType_EVENT_TYPE_BOUNCED, AtMs: after(61 * time.Second), Step: 3, Attempt: 2, Host: "mx.acme.example", HostIp: "192.0.2.9",
			Outcomes: []*pb.Outcome{to(0, "b@acme.example", gone)}}),
		common(&pb.Event{Id: "8", Type: pb.EventType_EVENT_TYPE_DSN, AtMs: after(61 * time.Second), Step: 3, ChildId: "01B", Text: "failed"}),
		{Id: "9", Type: pb.EventType_EVENT_TYPE_ROUTED, MessageId: "01B", AtMs: after(62 * time.Second), Step: 1, Origin: pb.Origin_ORIGIN_DSN, ParentId: "01A",
			Tenant: "acme", Queue: "bounces", Destination: "blue.example", Outcomes: []*pb.Outcome{to(0, "a@blue.example", nil)}, Size: 3000},
		{Id: "10", Type: pb.EventType_EVENT_TYPE_ROUTED, MessageId: "01X", AtMs: after(0), Outcomes: []*pb.Outcome{to(0, "x@other.example", nil)}},
	}
}

func reader(es []*pb.Event) Reader {
	return func(_ context.Context, each func(*pb.Event)) error {
		for _, e := range es {
			each(e)
		}
		return nil
	}
}

func find(t *testing.T, q Query) Found {
	t.Helper()
	found, err := Collect(t.Context(), reader(life()), q)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCollect(t *testing.T) {
	for _, c := range []struct {
		name  string
		query Query
		want  string // roots, with their DSNs in brackets
	}{
		{"by id", Query{ID: "01A"}, "01A[01B]"},
		{"by Message-ID", Query{MessageID: "m1@blue.example"}, "01A[01B]"},
		{"by Message-ID in brackets", Query{MessageID: "<m1@blue.example>"}, "01A[01B]"},
		{"by recipient, whatever its case", Query{Recipient: "B@Acme.example"}, "01A[01B]"},
		{"a DSN by its id", Query{ID: "01B"}, "01B[]"},
		{"a DSN by its recipient", Query{Recipient: "a@blue.example"}, "01B[]"},
		{"nobody's", Query{Recipient: "nobody@acme.example"}, ""},
		{"unknown id", Query{ID: "01Z"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, l := range find(t, c.query).Roots {
				var below []string
				for _, child := range l.Children {
					below = append(below, child.ID)
				}
				got = append(got, l.ID+"["+strings.Join(below, " ")+"]")
			}
			if d := cmp.Diff(c.want, strings.Join(got, " ")); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestText(t *testing.T) {
	var out bytes.Buffer
	if err := Text(&out, find(t, Query{ID: "01A"})); err != nil {
		t.Fatal(err)
	}
	const want = `message 01A
  from <a@blue.example>, 1200 bytes, Message-ID <m1@blue.example>
  by SMTP from client.example [192.0.2.1], HELO cl ient, at mx1.example
  2026-03-01 10:00:00.000Z  accepted for 2 recipients
  2026-03-01 10:00:00.020Z  leg 0: routed to tenant acme, queue acme, destination acme.example, route all
                                <b@acme.example>
                                <c@acme.example>
  2026-03-01 10:00:01.000Z  leg 0: attempt 1 took 300ms at mx.acme.example [192.0.2.9], TLS1.3
  2026-03-01 10:00:01.000Z  leg 0: delivered at mx.acme.example [192.0.2.9]
                                <c@acme.example> 250 2.0.0 ok
  2026-03-01 10:00:01.000Z  leg 0: deferred until 2026-03-01 10:01:00.000Z
                                <b@acme.example> 451 4.7.1 later  [31mred
  2026-03-01 10:01:00.000Z  leg 0: released to queue acme
                                <b@acme.example>
  2026-03-01 10:01:01.000Z  leg 0: bounced at mx.acme.example [192.0.2.9]
                                <b@acme.example> 550 5.1.1 gone
  2026-03-01 10:01:01.000Z  leg 0: DSN 01B says: failed
  = <b@acme.example> bounced: 550 5.1.1 gone (mx.acme.example)
  = <c@acme.example> delivered: 250 2.0.0 ok (mx.acme.example)
    message 01B
      DSN about 01A
      from <>, 3000 bytes, Message-ID none
      2026-03-01 10:01:02.000Z  leg 0: routed to tenant acme, queue bounces, destination blue.example, route none
                                    <a@blue.example>
      = <a@blue.example> queued, queue bounces
`
	if d := cmp.Diff(want, out.String()); d != "" {
		t.Error(d)
	}
}

func TestJSON(t *testing.T) {
	var out bytes.Buffer
	if err := JSON(&out, find(t, Query{ID: "01A"})); err != nil {
		t.Fatal(err)
	}
	var got lifeJSON
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Events) != 8 || len(got.DSNs) != 1 || got.Recipients[0].State != Bounced || got.Recipients[0].Text != "gone" {
		t.Errorf("%+v", got)
	}
}

func TestEventsThatCircleAreShownOnce(t *testing.T) {
	es := []*pb.Event{
		{Id: "1", MessageId: "01A", ParentId: "01B", Origin: pb.Origin_ORIGIN_DSN, ChildId: "01B"},
		{Id: "2", MessageId: "01B", ParentId: "01A", Origin: pb.Origin_ORIGIN_DSN, ChildId: "01A"},
	}
	found, err := Collect(t.Context(), reader(es), Query{ID: "01A"})
	if err != nil || len(found.Roots) != 1 || len(found.Roots[0].Children) != 1 {
		t.Errorf("%+v %v", found, err)
	}
	if err := Text(&bytes.Buffer{}, found); err != nil {
		t.Error(err)
	}
}
