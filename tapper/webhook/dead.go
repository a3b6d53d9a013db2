package webhook

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// How an undelivered event is settled by hand.
const (
	ActionRetry = "retry" // posted again
	ActionDrop  = "drop"  // given up
)

// Dead is an event that a webhook has given up, at an offset of the webhook
// topic.
type Dead struct {
	*pb.Undelivered
	Offset int64
}

// undelivered is the record that keeps an event which an endpoint didn't take.
func undelivered(u *pb.Undelivered) (bus.Record, error) {
	u.Error = mail.Printable(strings.ToValidUTF8(u.Error, "?"))
	return record(u.Webhook, &pb.WebhookRecord{What: &pb.WebhookRecord_Undelivered{Undelivered: u}})
}

func record(webhook string, w *pb.WebhookRecord) (bus.Record, error) {
	value, err := proto.Marshal(w)
	if err != nil {
		return bus.Record{}, fmt.Errorf("encode undelivered event: %w", err)
	}
	return bus.Record{Topic: schemas.Webhook, Partition: 0, Key: []byte(webhook), Value: value}, nil
}

// AllDead are the events that were given up and not settled, in order; webhook
// "" is every one's. What can't be read is passed over.
func AllDead(ctx context.Context, b *bus.Bus, webhook string) ([]Dead, error) {
	found := map[int64]Dead{}
	err := b.Read(ctx, []string{schemas.Webhook}, bus.Start{}, func(r bus.Record) error {
		w := &pb.WebhookRecord{}
		if proto.Unmarshal(r.Value, w) != nil {
			return nil
		}
		if u := w.GetUndelivered(); u != nil && u.Event != nil && (webhook == "" || u.Webhook == webhook) {
			found[r.Offset] = Dead{u, r.Offset}
		}
		if end := w.GetEnd(); end != nil {
			delete(found, end.Offset)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read undelivered events: %w", err)
	}
	all := make([]Dead, 0, len(found))
	for _, offset := range slices.Sorted(maps.Keys(found)) {
		all = append(all, found[offset])
	}
	return all, nil
}

// Settle has an event that was given up posted again (ActionRetry), by the
// webhook's processes, or forgotten (ActionDrop).
func Settle(ctx context.Context, b *bus.Bus, d Dead, action, actor string) error {
	if action != ActionRetry && action != ActionDrop {
		return fmt.Errorf("unknown action %q", mail.Printable(action))
	}
	end := &pb.UndeliveredEnd{Offset: d.Offset, Action: action, Actor: mail.Printable(strings.ToValidUTF8(actor, "?")), Webhook: d.Webhook}
	if action == ActionRetry {
		end.Event = d.Event
	}
	r, err := record(d.Webhook, &pb.WebhookRecord{What: &pb.WebhookRecord_End{End: end}})
	if err != nil {
		return err
	}
	return b.Publish(ctx, &r)
}
