package bus

import (
	"fmt"
	"strings"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// How much of a record is kept: what was compressed by a stranger may be of
// any size. The second is for a topic that takes less than it should.
const (
	deadRoom   = 3 << 20
	deadLittle = 16 << 10
	deadError  = 4 << 10
)

// deadletter is the record that keeps a record which can't be processed, or
// its beginning where it is larger than room: else it could never be stored,
// and would stop its partition.
func (e *engine) deadletter(r Record, cause error, room int) Record {
	e.counts.dead.Add(1)
	text := cause.Error()
	dead := &pb.Deadletter{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, AppendedMs: r.Time.UnixMilli(),
		Stage: e.stage, Error: strings.ToValidUTF8(text[:min(len(text), deadError)], "?"),
	}
	keep := func(b []byte) []byte {
		n := min(len(b), room)
		dead.Cut += int64(len(b) - n)
		room -= n
		return b[:n:n]
	}
	dead.Key, dead.Value = keep(r.Key), keep(r.Value)
	for _, h := range r.Headers {
		if size := len(h.Key) + len(h.Value) + 16; size <= room {
			room -= size
			dead.Headers = append(dead.Headers, &pb.Header{Key: strings.ToValidUTF8(h.Key, "?"), Value: h.Value})
		} else {
			dead.Cut += int64(size)
		}
	}
	return Record{
		Topic: schemas.Deadletter, Partition: AnyPartition,
		Key:   fmt.Appendf(nil, "%s/%d/%d", r.Topic, r.Partition, r.Offset),
		Value: encode(&pb.DeadletterRecord{What: &pb.DeadletterRecord_Dead{Dead: dead}}),
	}
}
