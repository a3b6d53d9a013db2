package router

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Whatever a record holds, it is poison, or each of its recipients is in one
// leg.
func FuzzRecord(f *testing.F) {
	for _, m := range []proto.Message{
		&pb.Received{Id: "01A", Envelope: envelope("a@blue.example", "b@x.example", "c@acme.example"), Content: inline("x")},
		&pb.Reinject{Id: "01A", Origin: pb.Origin_ORIGIN_REROUTE, Reroutes: 3, Envelope: envelope("", "b@x.example"), Content: inline("x")},
	} {
		value, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value, true)
		f.Add(value, false)
	}
	f.Fuzz(func(t *testing.T, value []byte, received bool) {
		r := bus.Record{Topic: schemas.Reinject, Value: value, Time: time.UnixMilli(1)}
		if received {
			r.Topic = schemas.Received
		}
		m, err := decode(r)
		if err != nil {
			if !errors.Is(err, bus.ErrPoison) {
				t.Errorf("not poison: %v", err)
			}
			return
		}
		legs, events := route(m, viewed())
		n := 0
		for _, l := range legs {
			n += len(l.Recipients)
			bus.NewLeg(topic(l), l)
		}
		for _, e := range events {
			bus.NewEvent(e)
		}
		if n != len(m.envelope.Recipients) {
			t.Errorf("%d of %d recipients are in legs", n, len(m.envelope.Recipients))
		}
	})
}
