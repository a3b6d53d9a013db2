package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// reference is the peer that ratios are to.
const reference = "postfix"

// spread is a figure over several runs.
type spread struct{ median, least, most float64 }

// over is the spread of some values; zero of none.
func over(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return spread{median: (v[(n-1)/2] + v[n/2]) / 2, least: v[0], most: v[n-1]}
}

// String is "median (least-most)" in as many digits as say something.
func (s spread) String() string {
	f := "%.0f"
	switch {
	case s.median < 10:
		f = "%.2f"
	case s.median < 100:
		f = "%.1f"
	}
	return fmt.Sprintf(f+" ("+f+"-"+f+")", s.median, s.least, s.most)
}

// figures are what runs are compared by.
var figures = map[string]func(run) float64{
	"accept": func(r run) float64 { return r.Accept },
	"relay":  func(r run) float64 { return r.Relay },
	"ack50":  func(r run) float64 { return r.Ack50 },
	"ack99":  func(r run) float64 { return r.Ack99 },
	"end50":  func(r run) float64 { return r.End50 },
	"end99":  func(r run) float64 { return r.End99 },
	"cpu":    func(r run) float64 { return r.CPU },
	"broker": func(r run) float64 { return r.BrokerCPU },
	"total":  func(r run) float64 { return r.CPU + r.BrokerCPU },
	"memory": func(r run) float64 { return r.Memory },
}

// group are the runs of one peer with one workload.
type group struct {
	workload, peer string
	runs           []run
}

// groups gathers runs, workloads and peers in the order of the page.
func groups(all []run) []group {
	var gs []group
	for _, r := range all {
		i := slices.IndexFunc(gs, func(g group) bool { return g.workload == r.Workload && g.peer == r.Peer })
		if i < 0 {
			i = len(gs)
			gs = append(gs, group{workload: r.Workload, peer: r.Peer})
		}
		gs[i].runs = append(gs[i].runs, r)
	}
	var workloads []string
	for _, w := range standard() {
		workloads = append(workloads, w.name())
	}
	peers := []string{"source to sink", reference, embeddedPeer, syncedPeer, onePeer, threePeer}
	slices.SortStableFunc(gs, func(a, b group) int {
		return cmp.Or(place(workloads, a.workload)-place(workloads, b.workload), cmp.Compare(a.workload, b.workload),
			place(peers, a.peer)-place(peers, b.peer))
	})
	return gs
}

// place is where a name stands in a list; what isn't there comes last.
func place(names []string, name string) int {
	if i := slices.Index(names, name); i >= 0 {
		return i
	}
	return len(names)
}

// figure is the spread of one figure.
func (g group) figure(name string) spread {
	var v []float64
	for _, r := range g.runs {
		v = append(v, figures[name](r))
	}
	return over(v)
}

// ratio is the spread of a figure's ratio to the reference within rounds.
func (g group) ratio(name string, all []run) (spread, bool) {
	var v []float64
	for _, r := range g.runs {
		for _, other := range all {
			if other.Peer == reference && other.Round == r.Round && other.Workload == r.Workload && figures[name](other) > 0 {
				v = append(v, figures[name](r)/figures[name](other))
			}
		}
	}
	return over(v), len(v) > 0
}

// faults are what went wrong in a group: lost, duplicate, corrupt deliveries,
// and mails refused or cut off.
func (g group) faults() string {
	var n [5]int
	for _, r := range g.runs {
		for i, v := range []int{r.Lost, r.Duplicates, r.Corrupt, r.Refused, r.Broken} {
			n[i] += v
		}
	}
	return fmt.Sprintf("%d/%d/%d/%d/%d", n[0], n[1], n[2], n[3], n[4])
}

// tables are all runs as Markdown, a table for each workload, and what must
// hold.
func tables(all []run) string {
	var b strings.Builder
	gs := groups(all)
	last := ""
	for _, g := range gs {
		if g.workload != last {
			last = g.workload
			fmt.Fprintf(&b, "### %s\n\n", last)
			b.WriteString("| peer | runs of mails | accept /s | relay /s | relay, ratio | CPU s per 1,000 | CPU, ratio | broker's CPU | ack p50 / p99 ms | end to end p50 / p99 ms | memory MB | lost/dup/corrupt/refused/broken |\n")
			b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|\n")
			for _, h := range gs {
				if h.workload == last {
					b.WriteString(h.row(all))
				}
			}
			b.WriteByte('\n')
		}
	}
	if m := marksTable(gs, all); m != "" {
		b.WriteString("### What must hold\n\n" + m)
	}
	return b.String()
}

func (g group) row(all []run) string {
	ratio := func(name string) string {
		s, ok := g.ratio(name, all)
		if !ok || g.peer == reference {
			return "-"
		}
		return s.String()
	}
	broker := "-"
	if s := g.figure("broker"); s.most > 0 {
		broker = s.String()
	}
	return fmt.Sprintf("| %s | %d of %d | %v | %v | %s | %v | %s | %s | %v / %v | %v / %v | %v | %s |\n",
		g.peer, len(g.runs), g.runs[0].Mails, g.figure("accept"), g.figure("relay"), ratio("relay"),
		g.figure("cpu"), ratio("cpu"), broker, g.figure("ack50"), g.figure("ack99"),
		g.figure("end50"), g.figure("end99"), g.figure("memory"), g.faults())
}
