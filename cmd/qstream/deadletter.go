package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"qstream/bus"
	"qstream/mail"
	"qstream/schemas"
)

// deadletterCmd is about records that no handler could process. They count as
// waiting mail until somebody settles them.
type deadletterCmd struct {
	List   deadListCmd   `cmd:"" help:"List what waits there."`
	Show   deadShowCmd   `cmd:"" help:"Show one record and why it is there."`
	Retry  deadRetryCmd  `cmd:"" help:"Put records back where they came from."`
	Bounce deadBounceCmd `cmd:"" help:"Refuse the recipients of records: the senders are told."`
}

// deadIDs name records of the deadletter topic.
type deadIDs struct {
	IDs []string `arg:"" optional:"" name:"id" help:"As list shows them: partition/offset."`
	All bool     `help:"Every record."`
}

func deadID(d bus.Dead) string { return fmt.Sprintf("%d/%d", d.Partition, d.Offset) }

// find are the records named, or all.
func (f deadIDs) find(ctx context.Context, b *bus.Bus) ([]bus.Dead, error) {
	if (len(f.IDs) > 0) == f.All {
		return nil, usagef("name records as list shows them, or say --all")
	}
	wanted := map[string]bool{}
	for _, id := range f.IDs {
		place := id
		if !strings.Contains(id, "/") {
			place = "0/" + id
		}
		if p, o, _ := strings.Cut(place, "/"); !isNumber(p) || !isNumber(o) {
			return nil, usagef("%s: want partition/offset, as qstream queue deadletter list shows it", mail.Printable(id))
		}
		wanted[place] = true
	}
	var found []bus.Dead
	_, err := b.Dead(ctx, func(d bus.Dead) error {
		if f.All || wanted[deadID(d)] {
			found = append(found, d)
			delete(wanted, deadID(d))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for id := range wanted {
		return nil, notFoundf("no record %s waits in the deadletter topic", id)
	}
	return found, nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 63)
	return err == nil
}

// deadJSON is a dead record for people and programs; its value decoded where
// that is possible.
func deadJSON(d bus.Dead) map[string]any {
	r := d.Record
	m := map[string]any{
		"id": deadID(d), "at": d.Time.UTC().Format(time.RFC3339Nano), "topic": r.Topic, "partition": r.Partition, "offset": r.Offset,
		"appended": time.UnixMilli(r.AppendedMs).UTC().Format(time.RFC3339Nano), "stage": r.Stage, "error": r.Error,
		"key": r.Key, "value": r.Value,
	}
	if r.Cut > 0 {
		m["cut"] = r.Cut
	}
	typ := ""
	headers := map[string]string{}
	for _, h := range r.Headers {
		headers[h.Key] = mail.Printable(string(h.Value))
		if h.Key == bus.HeaderType {
			typ = string(h.Value)
		}
	}
	m["headers"] = headers
	if decoded, err := schemas.Decode(r.Topic, typ, r.Value); err == nil {
		if line, err := schemas.JSON(decoded); err == nil {
			m["decoded"] = json.RawMessage(line)
		}
	}
	return m
}
