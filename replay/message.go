package replay

import (
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// message is the selected part of a received record; nil if none of it is
// meant, or if it can't be read: such a record is in the deadletter topic.
func (h *History) message(r bus.Record, s Selection, t *told) (*Message, error) {
	if !s.during(r.Time) {
		return nil, nil
	}
	var p pb.Received
	if proto.Unmarshal(schemas.WithoutInline(r.Topic, r.Value), &p) != nil || !s.message(&p) {
		return nil, nil
	}
	if _, ok := mail.IDTime(p.Id); !ok {
		return nil, nil // no edge wrote it
	}
	recipients := s.recipients(&p, t)
	if len(recipients) == 0 {
		return nil, nil
	}
	ref := r.Reference(p.Id, p.Content)
	if ref == nil {
		return nil, nil
	}
	return &Message{
		Received: &p, Content: ref, Recipients: recipients,
		Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Accepted: r.Time,
		raw: r, history: h,
	}, nil
}
