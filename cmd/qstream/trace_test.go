package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func TestTraceAndTail(t *testing.T) {
	broker := bustest.Start(t)
	id := mail.NewID(time.Now())
	bustest.Put(t, broker.Dial(t, bus.Config{}),
		bus.NewEvent(&pb.Event{
			Type: pb.EventType_EVENT_TYPE_ROUTED, MessageId: id, Tenant: "acme", HeaderMessageId: "<m@blue.example>",
			Outcomes: []*pb.Outcome{{Address: "b@acme.example"}},
		}),
		bus.Record{Topic: schemas.Events, Partition: bus.AnyPartition, Value: []byte("\xff garbage")},
	)
	for _, c := range []struct {
		args string
		exit int
		want string
	}{
		{"trace " + id, exitDone, "routed to tenant acme"},
		{"trace --message-id m@blue.example", exitDone, id},
		{"trace --recipient b@acme.example --json", exitDone, `"state":"queued"`},
		{"trace " + mail.NewID(time.Now()), exitNotFound, ""},
		{"trace --recipient nobody@acme.example", exitNotFound, ""},
		{"trace", exitUsage, ""},
		{"trace " + id + " --recipient b@acme.example", exitUsage, ""},
		{"tail events", exitDone, "EVENT_TYPE_ROUTED"},
		{"tail events --json", exitDone, `"error"`},
		{"tail all --since 1h", exitDone, "(9 bytes: "},
		{"tail received", exitNotFound, ""},
		{"tail nothing", exitUsage, ""},
		{"tail queue.nosuch", exitNotFound, ""},
		{"tail events --since 60", exitUsage, ""},
	} {
		t.Run(c.args, func(t *testing.T) {
			var out, errs bytes.Buffer
			args := append(strings.Fields(c.args), "--kafka", broker.Seeds[0])
			if exit := run(args, nil, &out, &errs); exit != c.exit {
				t.Fatalf("exit %d: %s", exit, errs.String())
			}
			if !strings.Contains(out.String(), c.want) {
				t.Errorf("no %q in %s", c.want, out.String())
			}
		})
	}
}
