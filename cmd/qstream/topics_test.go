package main

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestTopicsVerbs(t *testing.T) {
	v := verbs{t, bustest.Start(t).Seeds[0]}
	v.wants(v.run(0, "", "topics", "create"), fmt.Sprintf("all %d topics are there", len(schemas.FixedTopics())+1))
	v.run(0, "kind: queue\nname: acme\ncontent_class: archive\n", "apply", "-")
	v.wants(v.run(0, "", "topics", "list"), "qstream.queue.acme.v1", "qstream.content.archive.v1", "qstream.deliver.default: 0", "for ever")
	v.wants(v.run(0, "", "topics", "list", "--json"), `"topic":"qstream.received.v1"`)
	v.wants(v.run(0, "", "topics", "verify"), "offsets.retention.minutes")
	v.wants(v.run(1, "", "topics", "verify", "--keep", "30d"), "DANGEROUS  qstream.received.v1: retention.ms", "roles refuse")
	v.run(2, "", "topics", "verify", "--keep", "30")
	v.wants(v.run(0, "", "topics", "resume"), "every group has its place")
}

func TestDeadletterVerbs(t *testing.T) {
	k := bustest.Start(t)
	v := verbs{t, k.Seeds[0]}
	b := k.Dial(t, bus.Config{})
	v.wants(v.run(0, "", "queue", "deadletter", "list"), "nothing is there")
	v.wants(v.run(0, "", "queue", "deadletter", "retry", "--all"), "nothing is there")

	leg := &pb.Leg{
		MessageId: "M1", Number: 1, Step: 2, Tenant: "acme", Queue: "default", Generation: 1, Destination: "one.example",
		Recipients: []*pb.Recipient{{Address: "a@one.example"}},
	}
	received := &pb.Received{
		Id: "M2", Envelope: &pb.Envelope{ReversePath: "s@acme.example", Recipients: make([]*pb.Recipient, 150)},
		Content: &pb.Content{Where: &pb.Content_Inline{Inline: []byte("x")}, Size: 1, Sha256: []byte("sum")},
	}
	for i := range received.Envelope.Recipients {
		received.Envelope.Recipients[i] = &pb.Recipient{Number: uint32(i), Address: "r@one.example"}
	}
	queue := schemas.Queue("default", 1)
	put(t, b, queue, leg)
	put(t, b, schemas.Received, received)
	bustest.Put(t, b, dead(queue, []byte{0xff}))

	v.wants(v.run(0, "", "queue", "deadletter", "list"), "0/0", "0/1", "0/2", "broken")
	v.wants(v.run(0, "", "queue", "deadletter", "list", "--json"), `"id":"0/2"`)
	v.wants(v.run(0, "", "queue", "deadletter", "show", "0"), `"decoded"`, "one.example")
	v.run(3, "", "queue", "deadletter", "show", "0/99")
	v.run(2, "", "queue", "deadletter", "retry")
	v.run(2, "", "queue", "deadletter", "retry", "x")

	v.wants(v.run(0, "", "queue", "deadletter", "retry", "0/0"), "is on "+queue)
	got := bustest.Want(t, b, queue, 1)
	var again pb.Leg
	if err := proto.Unmarshal(got[0].Value, &again); err != nil || !proto.Equal(&again, leg) {
		t.Errorf("retried %v, %v", &again, err)
	}
	v.run(3, "", "queue", "deadletter", "retry", "0/0")

	v.wants(v.run(1, "", "queue", "deadletter", "bounce", "--all"), "0/1 is refused", "no readable mail")
	recipients := 0
	for _, r := range bustest.Want(t, b, queue, 3) {
		var l pb.Leg
		if err := proto.Unmarshal(r.Value, &l); err != nil {
			t.Fatal(err)
		}
		if l.MessageId == "M1" {
			continue
		}
		if l.GetRefusal().GetCode() != 554 || !l.Content.GetInline() || l.BornMs != 77 {
			t.Errorf("refused leg %v", &l)
		}
		recipients += len(l.Recipients)
	}
	if recipients != 150 {
		t.Errorf("%d recipients refused, want 150", recipients)
	}
	v.wants(v.run(0, "", "queue", "deadletter", "list"), "0/2")
}

func put(t *testing.T, b *bus.Bus, topic string, m proto.Message) {
	t.Helper()
	value, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	bustest.Put(t, b, dead(topic, value))
}

func dead(topic string, value []byte) bus.Record {
	record, err := proto.Marshal(&pb.DeadletterRecord{What: &pb.DeadletterRecord_Dead{Dead: &pb.Deadletter{
		Topic: topic, Value: value, Stage: "test", Error: "broken\x1b[31m", AppendedMs: 77,
		Headers: []*pb.Header{{Key: "id", Value: []byte("M")}},
	}}})
	if err != nil {
		panic(err)
	}
	return bus.Record{Topic: schemas.Deadletter, Partition: 0, Value: record, Time: time.Now()}
}
