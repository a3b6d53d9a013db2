package directory

import (
	"maps"
	"slices"
	"time"

	pb "qstream/schemas/qstream/v1"
)

// lineage is what was: generations of queue names ever used, and those whose
// topics may still hold legs.
type lineage struct {
	generations map[string]uint32
	scanned     map[string]uint32 // newest generations that have a scan topic
	retired     []retired
	subscribed  map[string]int64 // since when, by refs; in Unix milliseconds
}

// retired is a generation that is no longer routed to.
type retired struct {
	name       string
	generation uint32
	pool       string
	partitions int32
	at         time.Time
	scanned    bool
}

// keepRetired is how long a retired generation is drained: longer than any
// queue topic keeps a leg.
const keepRetired = 90 * 24 * time.Hour

func (l lineage) generation(name string) uint32 { return max(l.generations[name], 1) }

func (l lineage) queues() []*Queue {
	qs := make([]*Queue, len(l.retired))
	for i, r := range l.retired {
		qs[i] = newQueue(r.name)
		qs[i].Generation, qs[i].Pool, qs[i].Partitions = r.generation, r.pool, r.partitions
		qs[i].Scanned = r.scanned
	}
	return qs
}

// live reports whether the newest generation of a name is in use.
func (l lineage) live(name string) bool {
	_, used := l.generations[name]
	gone := func(r retired) bool { return r.name == name && r.generation == l.generation(name) }
	return (used || name == Default) && !slices.ContainsFunc(l.retired, gone)
}

// next is the lineage after a change from before to after at a time. A queue
// that is gone is retired; so is one whose pool or partitions changed, since
// its topic's commits and keys are of the old ones; what comes (again) or
// changes so gets the next generation. Before is nil if it isn't understood:
// then its queues are taken for unchanged.
func (l lineage) next(before, after *Snapshot, at time.Time) lineage {
	n := lineage{generations: map[string]uint32{}, scanned: map[string]uint32{}}
	maps.Copy(n.generations, l.generations)
	maps.Copy(n.scanned, l.scanned)
	n.subscribed = l.subscribedNext(before, after, at)
	for _, r := range l.retired {
		if at.Sub(r.at) < keepRetired {
			n.retired = append(n.retired, r)
		}
	}
	for _, q := range after.queueList {
		switch {
		case before == nil && l.live(q.Name), before != nil && keeps(before.queues[q.Name], q):
		case before != nil && before.queues[q.Name] != nil:
			n.generations[q.Name] = l.generation(q.Name) + 1
		default:
			n.generations[q.Name] = l.generations[q.Name] + 1
		}
		if q.Scanned {
			n.scanned[q.Name] = n.generation(q.Name)
		}
	}
	if before == nil {
		return n
	}
	for _, old := range before.queueList {
		if q := after.queues[old.Name]; !keeps(old, q) {
			n.retired = append(n.retired, retired{old.Name, old.Generation, old.Pool, old.Partitions, at, l.scanned[old.Name] == old.Generation})
		}
	}
	return n
}

// keeps reports whether a queue keeps its topics; either may be nil.
func keeps(old, q *Queue) bool {
	return old != nil && q != nil && q.Pool == old.Pool && q.Partitions == old.Partitions
}

// merge takes over what a record says.
func (l lineage) merge(a *pb.Apply) lineage {
	n := lineage{generations: map[string]uint32{}, scanned: map[string]uint32{}}
	if !a.Full {
		maps.Copy(n.generations, l.generations)
		maps.Copy(n.scanned, l.scanned)
	}
	maps.Copy(n.generations, a.Generations)
	maps.Copy(n.scanned, a.Scanned)
	n.subscribed = mergeSubscribed(l.subscribed, a.Subscribed, a.Full)
	for _, r := range a.Retired {
		n.retired = append(n.retired, retired{r.Name, r.Generation, r.Pool, r.Partitions, time.UnixMilli(r.RetiredMs), r.Scanned})
	}
	return n
}

// write puts the lineage into a record: whole generations into a full one,
// those that differ from before into a delta.
func (l lineage) write(a *pb.Apply, before lineage) {
	a.Subscribed = tellSubscribed(l.subscribed, before.subscribed, a.Full)
	a.Generations, a.Scanned = maps.Clone(l.generations), maps.Clone(l.scanned)
	if !a.Full {
		maps.DeleteFunc(a.Scanned, func(name string, g uint32) bool { return before.scanned[name] == g })
		maps.DeleteFunc(a.Generations, func(name string, g uint32) bool { return before.generations[name] == g })
	}
	for _, r := range l.retired {
		a.Retired = append(a.Retired, &pb.Retired{
			Name: r.name, Generation: r.generation, Pool: r.pool, Partitions: r.partitions, RetiredMs: r.at.UnixMilli(), Scanned: r.scanned,
		})
	}
}
