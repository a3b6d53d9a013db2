package bustest

import (
	"testing"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestBrokerHasTheTopics(t *testing.T) {
	b := New(t)
	topic := Queue(t, b, "acme")
	Put(t, b, bus.NewLeg(topic, &pb.Leg{MessageId: "m", Queue: "acme", Destination: "acme.example"}))
	if rs := Want(t, b, topic, 1); string(rs[0].Key) != "acme.example" {
		t.Fatalf("key %q", rs[0].Key)
	}
	lag, err := b.Lag(t.Context(), schemas.DeliverGroup(schemas.DefaultPool), []string{topic})
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	for _, v := range lag[topic] {
		n += v
	}
	if n != 1 {
		t.Fatalf("lag %d, want 1", n)
	}
}
