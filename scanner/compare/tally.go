package compare

import (
	"cmp"
	"slices"
	"time"

	"qstream/bus"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Key is what is tallied together.
type Key struct {
	Tenant, Queue  string
	Policy, Shadow string
}

// Tally sums up comparisons until it is told. The zero Tally is empty. Not safe
// for concurrent use.
type Tally struct {
	since  time.Time
	cells  map[pair]uint64
	missed uint64
	live   map[string]*Times
	shadow map[string]*Times
}

// pair is what became of a recipient, and what would have.
type pair struct{ action, shadow string }

// Count counts a recipient.
func (t *Tally) Count(now time.Time, action, shadow string) {
	t.begin(now)
	if t.cells == nil {
		t.cells = map[pair]uint64{}
	}
	t.cells[pair{action, shadow}]++
}

// Miss counts recipients of a leg that wasn't compared.
func (t *Tally) Miss(now time.Time, recipients int) {
	t.begin(now)
	t.missed += uint64(recipients)
}

// Took notes how long an engine of the policy in force took, or of its shadow.
func (t *Tally) Took(shadow bool, engine string, took time.Duration) {
	of := &t.live
	if shadow {
		of = &t.shadow
	}
	if *of == nil {
		*of = map[string]*Times{}
	}
	if (*of)[engine] == nil {
		(*of)[engine] = &Times{}
	}
	(*of)[engine].Add(took)
}

func (t *Tally) begin(now time.Time) {
	if t.since.IsZero() {
		t.since = now
	}
}

// Record is the event that tells the tally. Each has an id of its own.
func (t *Tally) Record(k Key, stage string, now time.Time) bus.Record {
	out := &pb.Tally{
		Policy: k.Policy, Shadow: k.Shadow, SinceMs: t.since.UnixMilli(), Missed: t.missed,
		Times: told(t.live), ShadowTimes: told(t.shadow),
	}
	for p, n := range t.cells {
		out.Cells = append(out.Cells, &pb.Cell{Action: p.action, ShadowAction: p.shadow, Recipients: n})
	}
	slices.SortFunc(out.Cells, func(a, b *pb.Cell) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.ShadowAction, b.ShadowAction))
	})
	return bus.NewEvent(&pb.Event{
		Id: mail.NewID(now), Type: pb.EventType_EVENT_TYPE_TALLIED, AtMs: now.UnixMilli(),
		Tenant: k.Tenant, Queue: k.Queue, Stage: stage, Tally: out,
	})
}

func told(times map[string]*Times) []*pb.Times {
	var out []*pb.Times
	for engine, t := range times {
		out = append(out, &pb.Times{Engine: engine, Scans: t.counts()})
	}
	slices.SortFunc(out, func(a, b *pb.Times) int { return cmp.Compare(a.Engine, b.Engine) })
	return out
}
