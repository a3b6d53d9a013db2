package bus

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
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

// NewQuarantined is the record of a leg on the quarantine topic: keyed by
// message.
func NewQuarantined(l *pb.Leg) Record {
	return legRecord(schemas.Quarantine, []byte(l.MessageId), l)
}

// NewRescan is the record of mail of the past that engines are to see again,
// or of what came of it.
func NewRescan(r *pb.Rescan) Record {
	return Record{
		Topic: schemas.Rescan, Partition: AnyPartition, Key: []byte(r.Leg.GetMessageId()), Value: encode(r),
		Headers: headers(
			HeaderID, r.Leg.GetMessageId(),
			HeaderLeg, strconv.FormatUint(uint64(r.Leg.GetNumber()), 10),
			HeaderTenant, r.Leg.GetTenant(),
			HeaderQueue, r.Leg.GetQueue(),
		),
	}
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
		e.Id = eventID(e)
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

// NewUsage is the record of a Usage. Of what one writer tells of a scope, the
// topic keeps the newest for each minute of an hour.
func NewUsage(u *pb.Usage) Record {
	key := fmt.Sprintf("%d\x00%s\x00%s\x00%s\x00%d", u.Kind, u.Tenant, u.User, u.Writer, u.Minute%60)
	return Record{Topic: schemas.Usage, Partition: AnyPartition, Key: []byte(key), Value: encode(u), Headers: headers(HeaderTenant, u.Tenant)}
}

// NewTapped is the record of a message for an archive.
func NewTapped(t *pb.Tapped) Record {
	return Record{
		Topic: schemas.Tap(t.Archive), Partition: AnyPartition, Key: []byte(t.MessageId), Value: encode(t),
		Headers: headers(HeaderID, t.MessageId, HeaderTrace, traceparent(t.MessageId, 0, 0)),
	}
}

// NewArchiveState is the record of an ArchiveState: the topic keeps the newest
// of each partition of an archive, and of each record that was kept.
func NewArchiveState(s *pb.ArchiveState) Record {
	key := fmt.Sprintf("%s\x00%d\x00%d", s.Archive, s.Partition, s.Offset)
	return Record{Topic: schemas.Archives, Partition: AnyPartition, Key: []byte(key), Value: encode(s)}
}

func eventID(e *pb.Event) string {
	id := make([]byte, 0, 64)
	id = append(append(id, e.MessageId...), '.')
	id = append(strconv.AppendUint(id, uint64(e.Leg), 10), '.')
	id = append(strconv.AppendUint(id, e.Step, 10), '.')
	id = strconv.AppendInt(id, int64(e.Type), 10)
	if len(e.Outcomes) > 0 {
		id = strconv.AppendUint(append(id, '.'), uint64(e.Outcomes[0].Number), 10)
	}
	return string(id)
}

// traceparent is the trace context of a step of a message (W3C Trace Context
// 3.2): a message id is a ULID, and its 16 bytes are the trace's id, so that
// every process finds the same trace without being told. Empty for other ids.
func traceparent(messageID string, leg uint32, step uint64) string {
	id, err := ulid.ParseStrict(messageID)
	if err != nil {
		return ""
	}
	var scratch [64]byte
	name := append(append(scratch[:0], messageID...), '.')
	name = append(strconv.AppendUint(name, uint64(leg), 10), '.')
	name = strconv.AppendUint(name, step, 10)
	out := make([]byte, 0, 55)
	out = hex.AppendEncode(append(out, "00-"...), id[:])
	out = hex.AppendEncode(append(out, '-'), binary.BigEndian.AppendUint64(nil, fnv64a(name)))
	return string(append(out, "-01"...))
}

// fnv64a is hash/fnv's New64a, which allocates.
func fnv64a(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
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

// headers are those with a value; all values share one piece of memory.
func headers(kv ...string) []Header {
	n, size := 0, 0
	for i := 1; i < len(kv); i += 2 {
		if kv[i] != "" {
			n, size = n+1, size+len(kv[i])
		}
	}
	hs, values := make([]Header, 0, n), make([]byte, 0, size)
	for i := 0; i < len(kv); i += 2 {
		if kv[i+1] == "" {
			continue
		}
		from := len(values)
		values = append(values, kv[i+1]...)
		hs = append(hs, Header{Key: kv[i], Value: values[from:len(values):len(values)]})
	}
	return hs
}
