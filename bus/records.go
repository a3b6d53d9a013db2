package bus

import (
	"fmt"
	"hash/fnv"
	"strconv"

	"github.com/oklog/ulid/v2"
	"google.golang.org/protobuf/proto"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Record headers repeat in text what a person greps for.
const (
	HeaderID          = "id"
	HeaderLeg         = "leg"
	HeaderTenant      = "tenant"
	HeaderQueue       = "queue"
	HeaderDestination = "destination"
	HeaderAttempt     = "attempt"
	HeaderEvent       = "event"
	HeaderType        = "type"        // "marker" on a Marker among legs
	HeaderTrace       = "traceparent" // W3C Trace Context; see traceparent
	HeaderRetry       = "retry"       // place of the dead record that this was
)

// NewLeg is the record of a leg on a scan or queue topic: keyed by
// destination.
func NewLeg(topic string, l *pb.Leg) Record {
	return legRecord(topic, []byte(l.Destination), l)
}

// NewWaiting is the record of a leg on a delay or parked topic: keyed by
// tenant and destination.
func NewWaiting(topic string, l *pb.Leg) Record {
	return legRecord(topic, []byte(l.Tenant+"\x00"+l.Destination), l)
}

func legRecord(topic string, key []byte, l *pb.Leg) Record {
	return Record{
		Topic: topic, Partition: AnyPartition, Key: key, Value: encode(l),
		Headers: headers(
			HeaderID, l.MessageId,
			HeaderLeg, strconv.FormatUint(uint64(l.Number), 10),
			HeaderTenant, l.Tenant,
			HeaderQueue, l.Queue,
			HeaderDestination, l.Destination,
			HeaderAttempt, strconv.FormatUint(uint64(l.Attempt), 10),
			HeaderTrace, traceparent(l.MessageId, l.Number, l.Step),
		),
	}
}

// NewReinject is the record of a message put in again.
func NewReinject(r *pb.Reinject) Record {
	return Record{
		Topic: schemas.Reinject, Partition: AnyPartition, Key: []byte(r.Id), Value: encode(r),
		Headers: headers(HeaderID, r.Id, HeaderTenant, r.Tenant, HeaderTrace, traceparent(r.Id, r.ParentLeg, 0)),
	}
}

// NewReceived is the record of an accepted message.
func NewReceived(r *pb.Received) Record {
	return Record{
		Topic: schemas.Received, Partition: AnyPartition, Key: []byte(r.Id), Value: encode(r),
		Headers: headers(HeaderID, r.Id, HeaderTenant, r.GetSession().GetTenant(), HeaderTrace, traceparent(r.Id, 0, 0)),
	}
}

// NewEvent is the record of an event. An empty id is derived from what the
// event tells, so that a repetition is recognised by it.
func NewEvent(e *pb.Event) Record {
	if e.Id == "" {
		e.Id = fmt.Sprintf("%s.%d.%d.%d", e.MessageId, e.Leg, e.Step, e.Type)
		if len(e.Outcomes) > 0 {
			e.Id += fmt.Sprintf(".%d", e.Outcomes[0].Number)
		}
	}
	return Record{
		Topic: schemas.Events, Partition: AnyPartition, Key: []byte(e.MessageId), Value: encode(e),
		Headers: headers(
			HeaderID, e.MessageId,
			HeaderEvent, e.Type.String(),
			HeaderTenant, e.Tenant,
			HeaderQueue, e.Queue,
			HeaderDestination, e.Destination,
			HeaderTrace, traceparent(e.MessageId, e.Leg, e.Step),
		),
	}
}

// traceparent is the trace context of a step of a message (W3C Trace Context
// 3.2): a message id is a ULID, and its 16 bytes are the trace's id, so that
// every process finds the same trace without being told. Empty for other ids.
func traceparent(messageID string, leg uint32, step uint64) string {
	id, err := ulid.ParseStrict(messageID)
	if err != nil {
		return ""
	}
	span := fnv.New64a()
	fmt.Fprintf(span, "%s.%d.%d", messageID, leg, step)
	return fmt.Sprintf("00-%x-%016x-01", id[:], span.Sum64())
}

// encode can't fail on our own messages: their strings are made valid UTF-8
// where they enter.
func encode(m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("encode %T: %v", m, err))
	}
	return b
}

func headers(kv ...string) []Header {
	hs := make([]Header, 0, len(kv)/2)
	for i := 0; i < len(kv); i += 2 {
		if kv[i+1] != "" {
			hs = append(hs, Header{Key: kv[i], Value: []byte(kv[i+1])})
		}
	}
	return hs
}
