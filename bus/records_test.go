package bus

import (
	"regexp"
	"testing"

	pb "qstream/schemas/qstream/v1"
)

// Every record of a message is in one trace, every step a span of its own.
func TestRecordsCarryTheTraceOfTheirMessage(t *testing.T) {
	const id = "01M84N7RCREXR3VCNP1FZXY2GP"
	records := []Record{
		NewReceived(&pb.Received{Id: id}),
		NewLeg("qstream.queue.acme.v1", &pb.Leg{MessageId: id, Number: 1, Step: 1}),
		NewWaiting("qstream.delay.1m.v1", &pb.Leg{MessageId: id, Number: 1, Step: 2}),
		NewLeg("qstream.queue.beta.v1", &pb.Leg{MessageId: id, Number: 2, Step: 1}),
	}
	form := regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-01$`)
	traces, spans := map[string]bool{}, map[string]bool{}
	for _, r := range records {
		m := form.FindStringSubmatch(header(r, HeaderTrace))
		if m == nil {
			t.Fatalf("%s: traceparent %q", r.Topic, header(r, HeaderTrace))
		}
		traces[m[1]], spans[m[2]] = true, true
	}
	if len(traces) != 1 || len(spans) != len(records) {
		t.Errorf("%d traces and %d spans for %d steps of one message", len(traces), len(spans), len(records))
	}
	event := NewEvent(&pb.Event{MessageId: id, Leg: 1, Step: 1})
	if got, want := header(event, HeaderTrace), header(records[1], HeaderTrace); got != want {
		t.Errorf("the event's span %s is not its leg's %s", got, want)
	}
	if got := header(NewReceived(&pb.Received{Id: "m0001"}), HeaderTrace); got != "" {
		t.Errorf("traceparent %q for an id that is no ULID", got)
	}
}

func header(r Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}
