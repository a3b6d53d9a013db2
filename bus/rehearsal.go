package bus

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Rehearsal is a process's part in a group, without a broker: the engine's own
// windows, index, markers, journal floors and commits over logs that the
// caller keeps. Nothing of it runs by itself, so that a simulation can end a
// process between any two records. It isn't safe for concurrent use.
//
// It has no members, leases and fences: the caller gives and takes partitions,
// and ends the transactions of who died.
type Rehearsal struct {
	engine *engine
	holder *Holder // nil: of jobs
}

// Position is a group's commit for a partition.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
	Metadata  string
}

// Finished reports whether the commit tells that the record at an offset is
// done with. Of a group that holds, the markers in the log tell more.
func (p Position) Finished(offset int64) bool {
	was, err := decodeProgress(p.Offset, p.Metadata)
	return offset < p.Offset || err == nil && within(was.finished, offset)
}

// RehearseWork is Work under a transactional id.
func (b *Bus) RehearseWork(owner string, cfg WorkConfig, take func(*Job)) *Rehearsal {
	e := b.newEngine(cfg.Group, cfg.Stage, cfg.From, cfg.Drain, cfg.MaxOpen)
	e.shape = &work{engine: e, cfg: cfg, take: take}
	e.journal = &journal{engine: e, partitions: 1}
	e.producer = &producer{id: owner}
	return &Rehearsal{engine: e}
}

// RehearseHold is Hold under a transactional id.
func (b *Bus) RehearseHold(owner string, cfg HoldConfig) (*Rehearsal, error) {
	h, err := b.Hold(cfg)
	if err != nil {
		return nil, err
	}
	h.engine.producer = &producer{id: owner}
	return &Rehearsal{engine: h.engine, holder: h}, nil
}

// Assign takes over a partition at a commit. Of jobs, journal is what is on
// the journal topic, in order. Of a group that holds, end is the partition's
// end; a marker that comes back is to be appended, and given to Until.
func (r *Rehearsal) Assign(at Position, end int64, journal []Record) (marker *Record) {
	e := r.engine
	p := e.partOf(context.Background(), commit{topicPartition{at.Topic, at.Partition}, at.Offset, at.Metadata})
	e.parts[p.key()] = p
	if r.holder == nil {
		r.replay(p, journal)
		e.shape.opened(p)
		return nil
	}
	x := newIndex(p.committed)
	p.own, p.window = x, x
	if end > p.committed {
		m := newMarker(p.topic, p.partition, nil)
		return &m
	}
	x.target = p.committed
	r.holder.completed(p, x)
	return nil
}

func (r *Rehearsal) replay(p *part, entries []Record) {
	end := int64(len(entries))
	if p.journal.part < 0 {
		p.journal.part, p.journal.floor = r.engine.journal.home(p.topic, p.partition), noFloor
	}
	if p.journal.floor == noFloor {
		p.journal.floor = end
	}
	p.journal.live, p.journal.marks, p.journal.next = map[int64]int64{}, map[int64][][]byte{}, end
	for i := range entries {
		attach(map[topicPartition]*part{p.key(): p}, clientRecord(entries[i]))
	}
}

// Until says where the marker of Assign was appended.
func (r *Rehearsal) Until(marker Record) {
	p := r.engine.parts[topicPartition{marker.Topic, marker.Partition}]
	x := p.own.(*index)
	x.target = marker.Offset + 1
	r.holder.completed(p, x)
}

// Arrive is given the partition's records, as a reader of committed records
// has them.
func (r *Rehearsal) Arrive(rec Record) {
	r.engine.arrived(rec.Topic, rec.Partition, []*kgo.Record{clientRecord(rec)})
	r.engine.shape.pump(r.engine.parts[topicPartition{rec.Topic, rec.Partition}])
}

// Pass is given the offsets that hold a transaction's end.
func (r *Rehearsal) Pass(topic string, partition int32, offset int64) {
	p := r.engine.parts[topicPartition{topic, partition}]
	if x, ok := p.own.(*index); ok {
		x.skip(offset)
		r.holder.completed(p, x)
		return
	}
	p.track.skip(offset)
}

// Begin is Job.Begin without its wait.
func (r *Rehearsal) Begin(j *Job) bool {
	r.engine.lease.wall.Store(time.Now().UnixNano())
	r.engine.lease.mono.Store(int64(time.Since(r.engine.lease.start)))
	if !j.admit(func() {}) {
		return false
	}
	r.engine.open <- struct{}{}
	return true
}

// Mark is Job.Mark in three parts: the entry is to be appended to the journal,
// and the job told of its offset once it is acknowledged.
func (r *Rehearsal) Mark(j *Job, result []byte) (entry Record, acknowledged func(offset int64)) {
	p := j.part
	entry = Record{Topic: schemas.Journal, Partition: p.journal.part,
		Value: encode(&pb.Journaled{Topic: p.topic, Partition: p.partition, Offset: j.Record.Offset, Result: result})}
	return entry, func(offset int64) {
		r.engine.journal.acknowledged(p, j.Record.Offset, offset)
		j.marks = append(j.marks, result)
	}
}

// Release releases what is due; at fetches a waiting record.
func (r *Rehearsal) Release(at func(topic string, partition int32, offset int64) *Record) (released int) {
	for _, p := range r.owned() {
		ws, pulled := r.holder.next(p)
		slices.SortFunc(ws, func(a, b *waiting) int { return cmp.Compare(a.offset, b.offset) })
		for _, w := range ws {
			r.holder.releaseOne(context.Background(), p, w, at(p.topic, p.partition, w.offset), pulled)
		}
		if len(ws) > 0 {
			p.begun--
		}
		released += len(ws)
	}
	return released
}

// Pull is Holder.Pull: the next Release has what matches.
func (r *Rehearsal) Pull(match func(Entry) bool) {
	for _, p := range r.owned() {
		var hits []*waiting
		for _, w := range r.holder.waiting(p) {
			if match(w.entry()) {
				hits = append(hits, w)
			}
		}
		r.holder.pull(p, &pull{left: 1, done: make(chan struct{})}, hits)
	}
}

// Each calls f for every entry that waits.
func (r *Rehearsal) Each(f func(Entry)) { r.holder.Each(f) }

func (r *Rehearsal) owned() []*part {
	ps := r.engine.owned()
	slices.SortFunc(ps, func(a, b *part) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	})
	return ps
}

// Rehearsed is a transaction: the records are to be produced, the positions
// committed with them, and then its end told.
type Rehearsed struct {
	Records   []Record
	Positions []Position
	engine    *engine
	batch     *batch
}

// Commit is a transaction of what has finished, or nil if there is nothing to
// commit. Progress over nothing but gaps waits for the next result.
func (r *Rehearsal) Commit() *Rehearsed {
	for _, p := range r.engine.parts {
		p.at = time.Now()
	}
	b := r.engine.snapshot("rehearsal", 1)
	if len(b.parts) == 0 {
		return nil
	}
	slices.SortFunc(b.parts, func(a, b batchPart) int {
		return cmp.Or(cmp.Compare(a.part.topic, b.part.topic), cmp.Compare(a.part.partition, b.part.partition))
	})
	t := &Rehearsed{engine: r.engine, batch: b}
	for i := range b.parts {
		bp := &b.parts[i]
		for _, res := range bp.results {
			t.Records = append(t.Records, res.out...)
		}
		if bp.extra != nil {
			t.Records = append(t.Records, *bp.extra)
		}
		c := bp.commit
		t.Positions = append(t.Positions, Position{c.topic, c.partition, c.offset, c.metadata})
	}
	return t
}

// End tells what became of the transaction.
func (t *Rehearsed) End(committed bool) {
	if committed {
		t.engine.committed(t.batch)
		return
	}
	t.engine.putBack(t.batch, nil)
}

func clientRecord(r Record) *kgo.Record {
	k := &kgo.Record{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Key: r.Key, Value: r.Value, Timestamp: r.Time}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader(h))
	}
	return k
}
