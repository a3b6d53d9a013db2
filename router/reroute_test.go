package router

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// A leg that is rerouted to where it was differs in nothing but its number,
// its origin and the count.
func TestRerouteKeepsTheLeg(t *testing.T) {
	e := envelope("a@blue.example", "b@x.example")
	e.EnvId, e.Ret, e.Body, e.Smtputf8 = "env", pb.Ret_RET_HDRS, pb.Body_BODY_8BITMIME, true
	legs, _ := route(mustDecode(t, receivedRecord(t, &pb.Received{
		Id: "01A", Envelope: e, Content: inline("body"), Session: &pb.Session{Id: "s", Tenant: "blue"},
		Prepend: []byte("Received: x\r\n"), HeaderMessageId: "<m@blue.example>",
	})), viewed())
	before := legs[0]
	before.Attempt, before.StoppedMs, before.DelayNotified, before.Owed = 4, 1000, true, true
	before.ByRoute, before.Route, before.Destination = "spare", "spare", "spare.example"
	before.Last = &pb.Status{Code: 451}
	after, events := route(mustDecode(t, reinjectRecord(t, schemas.Reroute(before, 7))), viewed())
	if len(after) != 1 || len(events) != 1 || events[0].Origin != pb.Origin_ORIGIN_REROUTE || events[0].ParentId != "01A" {
		t.Fatalf("%v %v", after, events)
	}
	d := cmp.Diff(before, after[0], protocmp.Transform(),
		protocmp.IgnoreFields(&pb.Leg{}, "number", "origin", "parent_id", "reroutes"))
	if d != "" {
		t.Error(d)
	}
}
