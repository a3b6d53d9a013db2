package bus

import (
	"context"
	"slices"
	"time"
)

// Job is one record to work on; its methods are safe for concurrent use.
type Job struct {
	Record Record

	work   *work
	part   *part
	marks  [][]byte // under the engine's lock, as all below
	begun  bool
	ended  bool
	cancel context.CancelFunc // of Begin's context
}

// Marks are the results that an earlier owner journaled for this record, in
// order, and this one's.
func (j *Job) Marks() [][]byte {
	j.work.engine.mu.Lock()
	defer j.work.engine.mu.Unlock()
	return slices.Clone(j.marks)
}

// Begin asks for leave to do something that can't be undone. It waits for
// room, for the partition's claim to be committed, for the lease, for the
// journal and for WorkConfig.Ready; it returns false once the partition is revoked or the process stops, or ctx ends: forget the job
// then. ctx bounds the wait alone: the context returned carries its values
// and ends when the drain's time is over; finish the job as unconfirmed then.
func (j *Job) Begin(ctx context.Context) (context.Context, bool) {
	e := j.work.engine
	if j.part.revoked.Err() != nil {
		return nil, false
	}
	select {
	case e.open <- struct{}{}:
	case <-j.part.revoked.Done():
		return nil, false
	case <-ctx.Done():
		return nil, false
	}
	bctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(j.part.cut, cancel)
	ended := func() { stop(); cancel() }
	for !j.admit(ended) {
		if !j.waitGate(ctx) {
			ended()
			<-e.open
			return nil, false
		}
	}
	return bctx, true
}

// admit begins the job if nothing forbids it.
func (j *Job) admit(cancel context.CancelFunc) bool {
	e := j.work.engine
	if j.work.cfg.Ready != nil && !j.work.cfg.Ready() {
		return false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	stale := !e.waiting.IsZero() && time.Since(e.waiting) > staleCommit || e.journal.late()
	// Without a claim the next owner would not know what to fence, nor where
	// in the journal to look.
	if stale || !j.part.claimed || j.part.draining || j.begun || j.ended || !e.lease.valid() {
		return false
	}
	j.begun, j.cancel = true, cancel
	j.part.begun++
	return true
}

func (j *Job) waitGate(ctx context.Context) bool {
	t := time.NewTimer(gateLook)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-j.part.revoked.Done():
	case <-ctx.Done():
	}
	return false
}

// Revoked ends when the partition is being given up: begin nothing new, cut
// what is not past its point of no return, and let the rest end.
func (j *Job) Revoked() context.Context { return j.part.revoked }

// Held reports whether the partition is still this process's, as far as it may
// know: asked right before a point of no return, it tells also a process that
// wakes up, or was cut off, and hasn't heard of the next owner yet.
func (j *Job) Held() bool {
	return j.part.revoked.Err() == nil && j.work.engine.lease.valid()
}

// Mark journals a result: durable when it returns nil.
func (j *Job) Mark(ctx context.Context, result []byte) error {
	e := j.work.engine
	if err := e.journal.write(ctx, j.part, j.Record.Offset, result); err != nil {
		return err
	}
	e.mu.Lock()
	j.marks = append(j.marks, result)
	e.mu.Unlock()
	return nil
}

// Finish ends the job: outputs and progress become visible in one
// transaction, which is repeated if it aborts. Only the first call counts.
// Once the partition is gone it has no effect: the next owner does the job.
func (j *Job) Finish(out ...Record) {
	e := j.work.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	begun, ok := j.end()
	if !ok {
		return
	}
	e.finish(j.part, &result{offset: j.Record.Offset, source: j.Record, out: out, slot: begun})
}

// Deadletter ends the job by moving its record to the deadletter topic; out
// are published with it.
func (j *Job) Deadletter(err error, out ...Record) {
	j.Finish(append(slices.Clip(out), j.work.engine.deadletter(j.Record, err, deadRoom))...)
}

// Abandon ends the job as not done: after Begin, when it was cut before its
// point of no return. The record goes to the next owner, or is handed out
// again here if the partition stays.
func (j *Job) Abandon() {
	e := j.work.engine
	e.mu.Lock()
	begun, ok := j.end()
	if begun {
		<-e.open
	}
	again := ok && !j.part.draining
	var next *Job
	if again {
		next = &Job{Record: j.Record, work: j.work, part: j.part, marks: j.marks}
		j.work.hold(j.part, next, 1)
	}
	e.mu.Unlock()
	if again {
		j.work.take(next)
	}
}

// end takes note that the job is over. The lock is held.
func (j *Job) end() (begun, ok bool) {
	if j.ended {
		return false, false
	}
	j.ended = true
	if !j.part.dropped {
		j.work.hold(j.part, j, -1)
	}
	if j.begun {
		j.begun = false
		j.cancel()
		j.part.begun--
		if j.part.draining {
			j.work.engine.notify()
		}
		return true, true
	}
	return false, true
}
