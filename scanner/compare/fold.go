package compare

import (
	"cmp"
	"slices"
	"strings"
	"time"

	pb "qstream/schemas/qstream/v1"
)

// fold gathers events into a report.
type fold struct {
	selection Selection
	groups    map[key]*group
	tallies   map[string]bool // by their ids: a broker may repeat a record
}

// key is what a group is of; no tenant: all of them.
type key struct{ tenant, policy, shadow string }

type group struct {
	since  int64
	missed uint64
	cells  map[pair]uint64
	times  map[engineKey]*Times
	latest map[pair][]Example
}

type engineKey struct {
	shadow bool
	engine string
}

func newFold(s Selection) *fold {
	return &fold{selection: s, groups: map[key]*group{}, tallies: map[string]bool{}}
}

// add folds an event; what is not meant, or tells nothing, is passed over.
func (f *fold) add(e *pb.Event) {
	policy, shadow := e.GetTally().GetPolicy(), e.GetTally().GetShadow()
	if c := e.Comparison; c != nil {
		policy, shadow = c.Policy, c.Shadow
	}
	s := f.selection
	if policy == "" || s.Tenant != "" && e.Tenant != s.Tenant || s.Policy != "" && s.Policy != policy && s.Policy != shadow {
		return
	}
	switch {
	case e.Tally == nil:
	case f.tallies[e.Id]:
		return
	default:
		f.tallies[e.Id] = true
	}
	for _, k := range []key{{e.Tenant, policy, shadow}, {"", policy, shadow}} {
		g := f.groups[k]
		if g == nil {
			g = &group{cells: map[pair]uint64{}, times: map[engineKey]*Times{}, latest: map[pair][]Example{}}
			f.groups[k] = g
		}
		if e.Tally != nil {
			g.tally(e.Tally)
		}
		if e.Comparison != nil {
			g.examples(e, s.Examples)
		}
	}
}

func (g *group) tally(t *pb.Tally) {
	if g.since == 0 || t.SinceMs < g.since {
		g.since = t.SinceMs
	}
	g.missed += t.Missed
	for _, c := range t.Cells {
		g.cells[pair{c.Action, c.ShadowAction}] += c.Recipients
	}
	for shadow, times := range map[bool][]*pb.Times{false: t.Times, true: t.ShadowTimes} {
		for _, of := range times {
			k := engineKey{shadow, of.Engine}
			if g.times[k] == nil {
				g.times[k] = &Times{}
			}
			g.times[k].merge(of.Scans)
		}
	}
}

// examples keeps the latest n differing recipients of each pair of actions.
func (g *group) examples(e *pb.Event, n int) {
	address := map[uint32]string{}
	for _, o := range e.Outcomes {
		address[o.Number] = o.Address
	}
	for _, p := range e.Comparison.Partings {
		x := Example{
			MessageID: e.MessageId, Leg: e.Leg, At: time.UnixMilli(e.AtMs).UTC(), Tenant: e.Tenant, Queue: e.Queue, Recipient: address[p.Number],
			Action: p.Action, Finding: p.Finding, Shadow: p.ShadowAction, ShadowFinding: p.ShadowFinding,
			Verdicts: words(e.Comparison.Verdicts), ShadowSaid: words(e.Comparison.ShadowVerdicts),
		}
		of := pair{p.Action, p.ShadowAction}
		latest := slices.DeleteFunc(g.latest[of], func(o Example) bool { // told twice
			return o.MessageID == x.MessageID && o.Leg == x.Leg && o.Recipient == x.Recipient
		})
		latest = append(latest, x)
		g.latest[of] = latest[max(0, len(latest)-n):]
	}
}

// words are verdicts as "clamav malware Eicar".
func words(verdicts []*pb.Verdict) []string {
	out := make([]string, len(verdicts))
	for i, v := range verdicts {
		out[i] = strings.Join(strings.Fields(v.Engine+" "+v.Outcome+" "+v.Reason+" "+v.Name), " ")
	}
	return out
}

func (f *fold) report() Report {
	r := Report{Tenants: []Group{}, Totals: []Group{}}
	for k, g := range f.groups {
		if k.tenant == "" {
			r.Totals = append(r.Totals, g.of(k))
		} else {
			r.Tenants = append(r.Tenants, g.of(k))
		}
	}
	for _, groups := range [][]Group{r.Tenants, r.Totals} {
		slices.SortFunc(groups, func(a, b Group) int {
			return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Shadow, b.Shadow), cmp.Compare(a.Tenant, b.Tenant))
		})
	}
	return r
}

func (g *group) of(k key) Group {
	out := Group{Tenant: k.tenant, Policy: k.policy, Shadow: k.shadow, Missed: g.missed, Cells: []Cell{}, Engines: []Engine{}, Examples: []Example{}}
	if g.since > 0 {
		out.Since = time.UnixMilli(g.since).UTC()
	}
	for p, n := range g.cells {
		out.Compared += n
		if p.action != p.shadow {
			out.Differing += n
		}
		out.Cells = append(out.Cells, Cell{p.action, p.shadow, n})
	}
	slices.SortFunc(out.Cells, func(a, b Cell) int {
		return cmp.Or(cmp.Compare(b.Recipients, a.Recipients), cmp.Compare(a.Action, b.Action), cmp.Compare(a.Shadow, b.Shadow))
	})
	for e, t := range g.times {
		out.Engines = append(out.Engines, Engine{e.engine, e.shadow, t.Len(), t.Quantile(.5), t.Quantile(.99)})
	}
	slices.SortFunc(out.Engines, func(a, b Engine) int {
		if a.Shadow != b.Shadow {
			return cmp.Compare(side(a.Shadow), side(b.Shadow))
		}
		return cmp.Compare(a.Engine, b.Engine)
	})
	for _, latest := range g.latest {
		out.Examples = append(out.Examples, latest...)
	}
	slices.SortFunc(out.Examples, func(a, b Example) int {
		return cmp.Or(b.At.Compare(a.At), cmp.Compare(b.MessageID, a.MessageID), cmp.Compare(a.Leg, b.Leg), cmp.Compare(a.Recipient, b.Recipient))
	})
	return out
}

func side(shadow bool) int {
	if shadow {
		return 1
	}
	return 0
}
