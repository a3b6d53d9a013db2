package then

import (
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// TestClocksOfHosts: a leg's events are in the order of the log, whatever their
// hosts' clocks say: an attempt that seems to be before its routing is
// no difference.
func TestClocksOfHosts(t *testing.T) {
	b := bustest.New(t)
	number := apply(t, b, site+"---\nkind: route\nname: far\nmatch: {domain: far.example}\nvia: smtp://192.0.2.5:25\n")
	id, at := mail.NewID(time.Now()), time.Now()
	out := func(e *pb.Event) {
		e.Destination, e.Route, e.Outcomes[0].Address = "192.0.2.5:25", "far", "eve@far.example"
	}
	bustest.Put(t, b, bus.NewReceived(&pb.Received{
		Id: id, Session: &pb.Session{Tenant: "acme", Relay: true}, Directory: number,
		Envelope: &pb.Envelope{ReversePath: "ann@acme.example", Recipients: []*pb.Recipient{{Address: "eve@far.example"}}},
	}),
		told(routed, id, number, at, out),
		told(pb.EventType_EVENT_TYPE_DELIVERED, id, number, at.Add(-time.Second), func(e *pb.Event) { out(e); e.Attempt = 1 }))
	m, err := Explain(t.Context(), b, id, Options{})
	if err != nil || len(m.Decisions) != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	for _, d := range m.Decisions {
		if d.Result != Same {
			t.Errorf("%s: %s, %s", d.Event, d.Result, d.Why)
		}
	}
	if m.Decisions[0].Event != "delivered" {
		t.Error("they aren't told by their times")
	}
}
