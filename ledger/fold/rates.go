package fold

import pb "qstream/schemas/qstream/v1"

// Flow is what legs have in common that are counted together.
type Flow struct {
	Minute      int64 // since 1970, by the events
	Tenant      string
	Queue       string
	Destination string
}

// Rate counts legs of a flow.
type Rate struct {
	Came     int64 // routed
	Left     int64 // ended, or rerouted
	Deferred int64 // deferrals: a leg may have several
}

// Rates are the counts of a batch. Events of minutes before Since aren't
// counted: nobody asks for them any more.
type Rates struct {
	Since int64
	Flows map[Flow]*Rate
}

func (r *Rates) came(e *pb.Event) {
	if c := r.flow(e); c != nil {
		c.Came++
	}
}

func (r *Rates) left(e *pb.Event) {
	if c := r.flow(e); c != nil {
		c.Left++
	}
}

func (r *Rates) deferred(e *pb.Event) {
	if c := r.flow(e); c != nil {
		c.Deferred++
	}
}

func (r *Rates) flow(e *pb.Event) *Rate {
	f := Flow{Minute: e.AtMs / 60_000, Tenant: e.Tenant, Queue: e.Queue, Destination: bounded(e.Destination)}
	if f.Minute < r.Since {
		return nil
	}
	c := r.Flows[f]
	if c == nil {
		if r.Flows == nil {
			r.Flows = map[Flow]*Rate{}
		}
		c = &Rate{}
		r.Flows[f] = c
	}
	return c
}
