package ledger

import (
	"context"
	"errors"
	"maps"
	"math"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/ledger/fold"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// How much of what no router reads is noted at a time: content comes along.
const (
	noteRecords = 2000
	noteBytes   = 8 << 20
)

// noting looks for records in front of the router that nobody reads, and notes
// them: no event tells of them yet.
func (v *view) noting(ctx context.Context) error {
	w := waiting{v: v, stuck: map[string]map[int32]int64{}, noted: map[string]map[int32]int64{}}
	for warned := false; bus.Pause(ctx, v.cfg.Look); {
		err := w.look(ctx)
		if err != nil && ctx.Err() == nil && !warned {
			v.deps.Log.Warn("can't see what waits for the router, trying again", "stage", stageName, "err", err)
		}
		warned = err != nil
	}
	return nil
}

// waiting remembers, by topic and partition, the commit of the router at which
// records waited at the last look, and up to where they have been noted.
type waiting struct {
	v            *view
	stuck, noted map[string]map[int32]int64
}

// look costs three small requests, and reads only where a commit stood still
// since the last look while records wait behind it.
func (w *waiting) look(ctx context.Context) error {
	topics := []string{schemas.Received, schemas.Reinject}
	lag, err := w.v.deps.Bus.Lag(ctx, schemas.RouterGroup, topics)
	if err != nil {
		return err
	}
	for _, topic := range topics {
		stuck := map[int32]int64{}
		if waits(lag[topic]) {
			at, err := w.v.deps.Bus.Committed(ctx, schemas.RouterGroup, topic)
			if err != nil {
				return err
			}
			for p, n := range lag[topic] {
				if n > 0 {
					stuck[p] = at[p]
				}
			}
		}
		before := w.stuck[topic]
		w.stuck[topic] = stuck
		if err := w.note(ctx, topic, before, stuck); err != nil {
			return err
		}
	}
	return nil
}

func waits(lag map[int32]int64) bool {
	for _, n := range lag {
		if n > 0 {
			return true
		}
	}
	return false
}

// note reads and notes what stands behind commits that haven't moved.
func (w *waiting) note(ctx context.Context, topic string, before, now map[int32]int64) error {
	from := map[int32]int64{}
	for p, at := range now {
		if was, ok := before[p]; ok && was == at {
			from[p] = max(at, w.noted[topic][p])
		}
	}
	if len(from) == 0 {
		return nil
	}
	ends, err := w.v.deps.Bus.Ends(ctx, topic)
	if err != nil {
		return err
	}
	start, some := map[int32]int64{}, false
	for p, end := range ends {
		start[p] = math.MaxInt64 // nothing is read of the others
		if at, ok := from[p]; ok && at < end {
			start[p], some = at, true
		}
	}
	if !some {
		return nil
	}
	return w.read(ctx, topic, start)
}

var errEnough = errors.New("enough for now")

func (w *waiting) read(ctx context.Context, topic string, start map[int32]int64) error {
	// A broker that went away must not hold up the other topic for long.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	noted := maps.Clone(w.noted[topic])
	if noted == nil {
		noted = map[int32]int64{}
	}
	var notes []fold.Note
	size, records := 0, 0
	err := w.v.deps.Bus.Read(ctx, []string{topic}, bus.Start{Offset: map[string]map[int32]int64{topic: start}}, func(r bus.Record) error {
		if n, ok := noteOf(r); ok {
			notes = append(notes, n)
		}
		noted[r.Partition] = r.Offset + 1
		size, records = size+len(r.Value), records+1
		if records == noteRecords || size >= noteBytes {
			return errEnough
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return err
	}
	w.v.addNotes(notes)
	w.noted[topic] = noted
	return nil
}

// noteOf is the note about a record; what can't be read becomes a dead record,
// which is counted there.
func noteOf(r bus.Record) (n fold.Note, ok bool) {
	n.At = fold.At{Partition: r.Partition, Offset: r.Offset}
	n.BornMs = r.Time.UnixMilli()
	var envelope *pb.Envelope
	if r.Topic == schemas.Received {
		var m pb.Received
		if proto.Unmarshal(r.Value, &m) != nil {
			return n, false
		}
		n.ID, ok = fold.ParseID(m.Id)
		n.Place, n.Opened, n.Tenant = fold.Received, fold.Accepted, m.GetSession().GetTenant()
		n.HeaderID, n.Size, envelope = m.HeaderMessageId, m.GetContent().GetSize(), m.Envelope
	} else {
		var m pb.Reinject
		if proto.Unmarshal(r.Value, &m) != nil {
			return n, false
		}
		n.ID, ok = fold.ParseID(m.Id)
		n.Place, n.Tenant = fold.Reinject, m.Tenant
		if schemas.Generated(m.Origin) {
			n.Opened = fold.Generated
		}
		if m.BornMs > 0 {
			n.BornMs = m.BornMs
		}
		n.Parent, _ = fold.ParseID(m.ParentId)
		n.HeaderID, n.Size, envelope = m.HeaderMessageId, m.GetContent().GetSize(), m.Envelope
	}
	n.ReversePath = envelope.GetReversePath()
	for _, r := range envelope.GetRecipients() {
		n.Recipients = append(n.Recipients, &pb.Outcome{Number: r.Number, Address: r.Address})
	}
	return n, ok
}
