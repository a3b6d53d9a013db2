package bus

import (
	"fmt"
	"strings"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// deadletter is the record that keeps a record which can't be processed.
func (e *engine) deadletter(r Record, cause error) Record {
	e.counts.dead.Add(1)
	dead := &pb.Deadletter{
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, AppendedMs: r.Time.UnixMilli(),
		Stage: e.stage, Error: strings.ToValidUTF8(cause.Error(), "?"),
		Key: r.Key, Value: r.Value,
	}
	for _, h := range r.Headers {
		dead.Headers = append(dead.Headers, &pb.Header{Key: strings.ToValidUTF8(h.Key, "?"), Value: h.Value})
	}
	return Record{
		Topic: schemas.Deadletter, Partition: AnyPartition,
		Key:   fmt.Appendf(nil, "%s/%d/%d", r.Topic, r.Partition, r.Offset),
		Value: encode(&pb.DeadletterRecord{What: &pb.DeadletterRecord_Dead{Dead: dead}}),
	}
}
