package webhook

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
	"qstream/mail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/view"
)

// Bounds of a webhook in a process.
const (
	maxHeld    = 2000 // events in memory
	maxPart    = 1000 // of them, of one partition
	maxBytes   = 16 << 20
	commitEach = 500 * time.Millisecond
	gaugeEvery = time.Second
	drainMore  = 5 * time.Second // beyond a post's time
)

// subscriber posts to one webhook as it was ordered.
type subscriber struct {
	deps    Deps
	metrics *metrics
	bodies  *bodies
	log     *slog.Logger
	hook    *directory.Webhook
	begin   beginning
	poster  *Poster
	lane    *lane
	began   time.Time
}

func newSubscriber(w *Webhooks, log *slog.Logger, o order) (*subscriber, error) {
	d := w.deps
	poster, err := NewPoster(o.hook, d.Now)
	if err != nil {
		return nil, err
	}
	return &subscriber{deps: d, metrics: w.metrics, bodies: w.bodies, log: log, hook: o.hook, begin: o.begin, poster: poster, lane: newLane(d.Now, chance), began: d.Now()}, nil
}

// run posts until ctx ends, and what was begun is over.
func (s *subscriber) run(ctx context.Context) error {
	defer s.poster.Close()
	topics := []string{schemas.Events, schemas.Webhook}
	if err := s.deps.Bus.Begin(ctx, s.begin.group, topics, s.begin.since); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	for range s.hook.Concurrency {
		workers.Go(func() {
			for d, job := s.lane.next(ctx); d != nil; d, job = s.lane.next(ctx) {
				s.attempt(ctx, d, job)
			}
		})
	}
	workers.Go(func() { s.gauge(ctx) })
	err := s.deps.Bus.Work(ctx, bus.WorkConfig{
		Group: s.begin.group, From: bus.NewTopics(topics...), MaxHeld: maxHeld, MaxPart: maxPart, MaxBytes: maxBytes,
		Every: commitEach,
		Drain: s.hook.Timeout + drainMore, Stage: "webhook",
	}, s.take)
	cancel()
	workers.Wait()
	return err
}

// take is called for each record, and must not block.
func (s *subscriber) take(j *bus.Job) {
	e, err := s.chosen(j.Record)
	if err != nil {
		s.log.Error("record can't be read, skipped", "topic", j.Record.Topic, "partition", j.Record.Partition, "offset", j.Record.Offset, "err", err)
	}
	if e == nil {
		s.ended(endSkipped)
		j.Finish()
		return
	}
	s.lane.add(place{j.Record.Topic, j.Record.Partition, j.Record.Offset}, j, e, marked(j.Marks()))
}

// chosen is what the endpoint is told of a record: an event, or one that
// somebody wants to be posted again.
func (s *subscriber) chosen(r bus.Record) (*pb.Event, error) {
	if r.Topic == schemas.Webhook {
		w := &pb.WebhookRecord{}
		if err := proto.Unmarshal(r.Value, w); err != nil {
			return nil, err
		}
		if end := w.GetEnd(); end.GetAction() == ActionRetry && end.GetWebhook() == s.hook.Name {
			return again(s.hook, end.GetEvent(), view.OwnerIn(s.deps.Directory.Snapshot()))
		}
		return nil, nil
	}
	e := &pb.Event{}
	if err := proto.Unmarshal(r.Value, e); err != nil {
		return nil, err
	}
	return Chosen(s.hook, e, view.OwnerIn(s.deps.Directory.Snapshot())), nil
}

// attempt posts a delivery once.
func (s *subscriber) attempt(ctx context.Context, d *delivery, job *bus.Job) {
	ctx, ok := job.Begin(ctx)
	if !ok { // another process's by now
		s.lane.drop(d, job)
		return
	}
	id, body, err := s.message(d)
	if err != nil {
		s.dead(d, job, d.first, 1, err.Error())
		return
	}
	before := s.deps.Control.State().Number + 1
	a := s.poster.post(ctx, id, body)
	if a.taken {
		s.metrics.posts.WithLabelValues(s.hook.Name, endTaken).Inc()
		s.lane.taken(d, job)
		s.ended(endTaken)
		job.Finish()
		return
	}
	s.metrics.posts.WithLabelValues(s.hook.Name, endFailed).Inc()
	s.refused(ctx, d, job, a, before)
}

// message is what is posted of a delivery. Whole events are written once for all
// webhooks; what was given up and is posted again may be of an older form.
func (s *subscriber) message(d *delivery) (id string, body []byte, err error) {
	if s.hook.All && len(s.hook.Recipients) == 0 && d.at.topic == schemas.Events {
		return s.bodies.message(d.at, d.event)
	}
	return message(d.event)
}

// refused decides what becomes of what the endpoint didn't take; it was posted
// before the order of this number.
func (s *subscriber) refused(ctx context.Context, d *delivery, job *bus.Job, a answer, before uint64) {
	known := !d.first.IsZero()
	since := d.first
	if s.hook.GiveUp.Then == directory.GiveUpPause && since.Before(s.began) {
		since = s.began // who resumes it gives the endpoint all the time again
	}
	over := known && s.deps.Now().Sub(since) >= s.hook.GiveUp.After
	switch {
	case a.gone:
		s.pause(ctx, before, "its endpoint answered 410 Gone")
	case over && s.hook.GiveUp.Then == directory.GiveUpDead:
		s.dead(d, job, d.first, d.failures+1, a.err)
		return
	case over:
		s.pause(ctx, before, fmt.Sprintf("event %s was not taken for %s: %s", d.event.Id, directory.FormatDuration(s.hook.GiveUp.After), a.err))
	}
	if job.Revoked().Err() != nil {
		s.lane.drop(d, job) // the next owner posts it
		job.Abandon()
		return
	}
	first, times := s.lane.failed(d, job, a)
	if times == 0 {
		s.log.Warn("event not taken, trying again", "msg_id", d.event.MessageId, "code", a.code, "err", a.err)
	}
	if !known {
		if err := job.Mark(ctx, mark(first)); err != nil {
			s.log.Warn("the time of the first post isn't kept", "msg_id", d.event.MessageId, "err", err)
		}
	}
	job.Abandon() // it comes again at once, and waits
}

// pause stops the webhook for all processes until somebody resumes it. Whoever
// did so after the post had begun knows better.
func (s *subscriber) pause(ctx context.Context, before uint64, reason string) {
	_, err := control.Send(ctx, s.deps.Bus, control.Command{
		Verb: control.PauseWebhook, Webhook: s.hook.Name, Actor: "qstream", Reason: mail.Printable(reason), Before: before,
	})
	if errors.Is(err, control.ErrResumed) {
		return
	}
	if err != nil { // the next attempt tries again
		s.log.Error("webhook can't be paused", "err", err)
		return
	}
	s.log.Error("webhook is paused", "err", reason)
}

// dead puts an event aside.
func (s *subscriber) dead(d *delivery, job *bus.Job, first time.Time, attempts int, reason string) {
	if first.IsZero() { // it can't be posted at all
		first = s.deps.Now()
	}
	r, err := undelivered(&pb.Undelivered{
		Webhook: s.hook.Name, Event: d.event, FirstMs: first.UnixMilli(), LastMs: s.deps.Now().UnixMilli(),
		Attempts: uint32(attempts), Error: reason,
	})
	s.lane.drop(d, job)
	if err != nil {
		job.Deadletter(err)
		return
	}
	s.log.Error("event given up", "msg_id", d.event.MessageId, "err", reason)
	s.ended(endDead)
	job.Finish(r)
}

func (s *subscriber) ended(end string) { s.metrics.events.WithLabelValues(s.hook.Name, end).Inc() }

// gauge tells how the endpoint does.
func (s *subscriber) gauge(ctx context.Context) {
	tick := time.NewTicker(gaugeEvery)
	defer tick.Stop()
	for {
		down, oldest := s.lane.state()
		age, is := 0.0, 0.0
		if !oldest.IsZero() {
			age = s.deps.Now().Sub(oldest).Seconds()
		}
		if down {
			is = 1
		}
		s.metrics.down.WithLabelValues(s.hook.Name).Set(is)
		s.metrics.oldest.WithLabelValues(s.hook.Name).Set(age)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// mark is a job's mark that keeps when it was first posted: a policy counts
// from there, whoever posts.
func mark(first time.Time) []byte { return binary.AppendVarint(nil, first.UnixMilli()) }

// marked reads it; zero: never posted.
func marked(marks [][]byte) time.Time {
	for _, m := range marks {
		if ms, n := binary.Varint(m); n > 0 && ms > 0 {
			return time.UnixMilli(ms)
		}
	}
	return time.Time{}
}
