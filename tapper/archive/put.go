package archive

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/sink"
)

// step is a bus.Step that hands a copy to the sink. Its state is the number of
// the partition's copies that the sink has taken.
func (r *reader) step(ctx context.Context, state []byte, rec bus.Record) ([]bus.Record, []byte, error) {
	var t pb.Tapped
	if err := proto.Unmarshal(rec.Value, &t); err != nil {
		r.a.metrics.poison.Inc()
		return nil, state, fmt.Errorf("%w: %s record: %w", bus.ErrPoison, rec.Topic, err)
	}
	next := number(state) + 1
	if err := r.check(&t); err != nil {
		r.a.metrics.poison.Inc()
		return nil, state, fmt.Errorf("%w: %s record: %w", bus.ErrPoison, rec.Topic, err)
	}
	ref := t.Content
	if kept := r.a.kept.of(r.name, rec.Partition, rec.Offset, t.Content); kept != nil {
		ref = kept
	}
	c := r.copy(&t, ref, rec.Partition, next)
	unreadable := watch(&c)
	limit := r.a.cfg.Deadline + time.Duration(float64(r.a.cfg.PerMiB)*float64(c.Size)/(1<<20))
	bounded, stop := context.WithTimeout(ctx, limit)
	defer stop()
	began := time.Now()
	err := r.sink.Put(bounded, c)
	switch {
	case err == nil:
		r.taken(ctx, rec, time.Since(began))
		return nil, binary.AppendUvarint(nil, next), nil
	case ctx.Err() != nil:
		return nil, state, err
	case unreadable.Load() && r.a.gone(ctx, ref):
		r.a.metrics.lost.WithLabelValues(r.name).Inc()
		r.a.deps.Log.Error("content aged out before the archive's sink took it", "stage", stageName, "archive", r.name,
			"msg_id", t.MessageId, "topic", rec.Topic, "partition", rec.Partition, "offset", rec.Offset)
		return nil, state, fmt.Errorf("%w: content of %s is gone: %w", bus.ErrPoison, t.MessageId, err)
	}
	r.failed(ctx, rec.Partition, err)
	return nil, state, err
}

// watch tells whether content was not what was stored: a sink's error may say it
// in its own words.
func watch(c *sink.Copy) (unreadable *atomic.Bool) {
	unreadable = new(atomic.Bool)
	open := c.Open
	if open == nil {
		return unreadable
	}
	note := func(err error) {
		if errors.Is(err, bus.ErrContent) {
			unreadable.Store(true)
		}
	}
	c.Open = func(ctx context.Context) (io.ReadCloser, error) {
		content, err := open(ctx)
		note(err)
		return &watched{content, note}, err
	}
	return unreadable
}

type watched struct {
	io.ReadCloser
	note func(error)
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	w.note(err)
	return n, err
}

// check refuses what no sink will ever take: it would hold up all behind it.
func (r *reader) check(t *pb.Tapped) error {
	if t.Archive != r.name {
		return fmt.Errorf("a copy of archive %q", mail.Printable(t.Archive))
	}
	if t.MessageId == "" || t.Full && (t.Content.GetTopic() == "" || t.Content.GetSize() < 0) {
		return errors.New("no message id, or no content")
	}
	c := r.copy(t, t.Content, 0, 1)
	return c.Check()
}

// number is the count in a state; an empty one is a partition's beginning.
func number(state []byte) uint64 {
	n, _ := binary.Uvarint(state)
	return n
}

// copy is what the sink is given.
func (r *reader) copy(t *pb.Tapped, ref *pb.ContentRef, partition int32, sequence uint64) sink.Copy {
	c := sink.Copy{
		ID: r.name + "." + t.MessageId, Subscription: r.name, Sequence: sequence, Lane: strconv.Itoa(int(partition)),
		MessageID: t.MessageId, Accepted: time.UnixMilli(t.AcceptedMs), Recipients: t.Envelope.GetRecipients(),
		Kind: sink.Envelope,
		Received: &pb.Received{
			Id: t.MessageId, Session: t.Session, Envelope: t.Envelope, Prepend: t.Prepend, Directory: t.Directory,
			AcceptedMs: t.AcceptedMs, HeaderMessageId: t.HeaderMessageId, Checks: t.Checks,
			Content: &pb.Content{Size: ref.GetSize(), Sha256: ref.GetSha256()},
		},
	}
	if t.Full {
		c.Kind, c.Size = sink.Full, int64(len(t.Prepend))+ref.GetSize()
		c.Open = func(ctx context.Context) (io.ReadCloser, error) {
			content, err := r.a.deps.Bus.Open(ctx, ref)
			if err != nil {
				return nil, err
			}
			return mail.Prepended(t.Prepend, content), nil
		}
	}
	return c
}

// gone reports whether content is older than its topic keeps it. What can't be
// read before that is somebody's trouble, and tried again.
func (a *Archives) gone(ctx context.Context, ref *pb.ContentRef) bool {
	retention, err := a.deps.Bus.Retention(ctx, ref.GetTopic())
	return err == nil && retention > 0 && a.deps.Now().Sub(time.UnixMilli(ref.GetStoredMs())) > retention
}

// trouble is what a sink says on a partition.
type trouble struct {
	since time.Time
	told  time.Time
}

// taken notes that the sink takes copies.
func (r *reader) taken(ctx context.Context, rec bus.Record, took time.Duration) {
	r.a.metrics.taken.WithLabelValues(r.name).Inc()
	r.a.metrics.seconds.Observe(took.Seconds())
	r.a.metrics.waited.Observe(r.a.deps.Now().Sub(rec.Time).Seconds())
	r.mended(ctx, rec.Partition)
}

// mended ends the trouble of a partition, also what was told by a process that
// is gone, or of another sink.
func (r *reader) mended(ctx context.Context, partition int32) {
	r.mu.Lock()
	t := r.trouble[partition]
	delete(r.trouble, partition)
	left := len(r.trouble)
	r.mu.Unlock()
	if t == nil && !r.a.kept.fails(r.name, partition) {
		return
	}
	if left == 0 {
		r.a.metrics.failing.WithLabelValues(r.name).Set(0)
	}
	r.a.deps.Log.Info("archive's sink takes copies again", "stage", stageName, "archive", r.name, "partition", partition)
	r.tell(ctx, &pb.ArchiveState{Archive: r.name, Partition: partition})
}

// made is the partition of a sink that can't be made.
const made = -1

// failed notes that it doesn't, and tells that from time to time.
func (r *reader) failed(ctx context.Context, partition int32, err error) {
	now := r.a.deps.Now()
	r.mu.Lock()
	t := r.trouble[partition]
	if t == nil {
		t = &trouble{since: now}
		r.trouble[partition] = t
	}
	tell := now.Sub(t.told) >= r.a.cfg.Tell
	if tell {
		t.told = now
	}
	since := t.since
	r.mu.Unlock()
	r.a.metrics.failing.WithLabelValues(r.name).Set(1)
	r.a.metrics.failures.WithLabelValues(r.name).Inc()
	if !tell {
		return
	}
	text := mail.Printable(err.Error())
	r.tell(ctx, &pb.ArchiveState{Archive: r.name, Partition: partition, FailingMs: since.UnixMilli(), Error: text[:min(len(text), 1000)]})
}

// tell publishes a state; what isn't told is in the log and the metrics.
func (r *reader) tell(ctx context.Context, s *pb.ArchiveState) {
	s.AtMs = r.a.deps.Now().UnixMilli()
	rec := bus.NewArchiveState(s)
	err := r.a.deps.Bus.Publish(ctx, &rec)
	if err == nil {
		err = r.a.kept.take(rec) // at once, so that it isn't told again
	}
	if err != nil && ctx.Err() == nil {
		r.a.deps.Log.Warn("telling an archive's state failed", "stage", stageName, "archive", r.name, "err", err)
	}
}
