package deliver

import (
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// storage is the simulated broker: the logs of partitions with open, committed
// and aborted transactions, the groups' commits, and the journal. It outlives
// every process.
type storage struct {
	now     func() time.Time
	logs    map[string]*partitionLog
	commits map[string]bus.Position // by group and partition
	journal []bus.Record
	events  []*pb.Event // committed ones

	steps   int   // appends and ends so far: between two of them a process may die
	crashAt []int // the steps at which one does
}

type partitionLog struct {
	topic     string
	partition int32
	entries   []entry
}

type entry struct {
	record bus.Record
	within *transaction // nil: stands by itself
	end    bool         // a transaction's end: no record
}

type transaction struct {
	state  int // 0: open
	owner  string
	logs   []*partitionLog
	events []*pb.Event
}

const (
	txOpen = iota
	txCommitted
	txAborted
)

// crashed is how a process ends in the middle of what it does.
type crashed struct{}

// step is a place where a process may end.
func (s *storage) step() {
	if s.steps++; slices.Contains(s.crashAt, s.steps) {
		panic(crashed{})
	}
}

func (s *storage) log(topic string, partition int32) *partitionLog {
	name := fmt.Sprintf("%s/%d", topic, partition)
	if s.logs[name] == nil {
		s.logs[name] = &partitionLog{topic: topic, partition: partition}
	}
	return s.logs[name]
}

// place chooses a record's partition by its key: queues have two.
func place(r bus.Record) int32 {
	if r.Partition != bus.AnyPartition {
		return r.Partition
	}
	if r.Topic != simQueue {
		return 0
	}
	h := fnv.New32a()
	h.Write(r.Key)
	return int32(h.Sum32() % 2)
}

// append stores a record and returns it as a reader has it.
func (s *storage) append(r bus.Record, tx *transaction) bus.Record {
	r.Partition, r.Time = place(r), s.now()
	if r.Topic == schemas.Events {
		var e pb.Event
		if err := proto.Unmarshal(r.Value, &e); err != nil {
			panic(err)
		}
		tx.events = append(tx.events, &e)
		return r
	}
	l := s.log(r.Topic, r.Partition)
	r.Offset = int64(len(l.entries))
	l.entries = append(l.entries, entry{record: r, within: tx})
	if tx != nil {
		tx.logs = append(tx.logs, l)
	}
	return r
}

// commit carries a transaction out, record by record; aborted on request.
func (s *storage) commit(owner, group string, t *bus.Rehearsed, abort bool) *transaction {
	tx := &transaction{owner: owner}
	s.step()
	for _, r := range t.Records {
		s.append(r, tx)
		s.step()
	}
	if abort {
		s.end(tx, txAborted)
		s.step()
		return tx
	}
	s.end(tx, txCommitted)
	for _, at := range t.Positions {
		s.commits[fmt.Sprintf("%s %s/%d", group, at.Topic, at.Partition)] = at
	}
	s.step()
	return tx
}

// end ends a transaction: its marker takes an offset in every partition.
func (s *storage) end(tx *transaction, state int) {
	tx.state = state
	seen := map[*partitionLog]bool{}
	for _, l := range tx.logs {
		if !seen[l] {
			l.entries = append(l.entries, entry{end: true})
		}
		seen[l] = true
	}
	if state == txCommitted {
		s.events = append(s.events, tx.events...)
	}
}

// fence aborts what an owner left open.
func (s *storage) fence(owner string) {
	open := map[*transaction]bool{}
	for _, l := range s.logs {
		for _, e := range l.entries {
			if e.within != nil && e.within.owner == owner && e.within.state == txOpen {
				open[e.within] = true
			}
		}
	}
	for tx := range open {
		s.end(tx, txAborted)
	}
}

// stable is the first offset that a reader of committed records can't pass.
func (l *partitionLog) stable() int64 {
	for i, e := range l.entries {
		if e.within != nil && e.within.state == txOpen {
			return int64(i)
		}
	}
	return int64(len(l.entries))
}

func (e entry) stands() bool { return !e.end && (e.within == nil || e.within.state == txCommitted) }

func (s *storage) position(group, topic string, partition int32) bus.Position {
	if at, ok := s.commits[fmt.Sprintf("%s %s/%d", group, topic, partition)]; ok {
		return at
	}
	return bus.Position{Topic: topic, Partition: partition}
}

// released are the offsets that committed markers of a partition name, with
// how many markers name them.
func (l *partitionLog) released() map[int64]int {
	n := map[int64]int{}
	for _, e := range l.entries {
		var m pb.Marker
		if e.stands() && header(e.record, bus.HeaderType) == "marker" && proto.Unmarshal(e.record.Value, &m) == nil {
			for _, o := range m.Offsets {
				n[o]++
			}
		}
	}
	return n
}

// unfinished are the legs that wait in a partition, told without the engine:
// by the log, the commit and the markers alone.
func (s *storage) unfinished(group string, l *partitionLog) []*pb.Leg {
	at, released := s.position(group, l.topic, l.partition), l.released()
	var legs []*pb.Leg
	for i, e := range l.entries {
		if !e.stands() || header(e.record, bus.HeaderType) == "marker" || at.Finished(int64(i)) || released[int64(i)] > 0 {
			continue
		}
		var leg pb.Leg
		if err := proto.Unmarshal(e.record.Value, &leg); err != nil {
			panic(err)
		}
		legs = append(legs, &leg)
	}
	return legs
}
