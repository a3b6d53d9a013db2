package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/sink"
)

// kept is what processes told of archives: where content went that waits for
// long, and which partitions' sinks fail.
type kept struct {
	follower *bus.Follower

	mu      sync.Mutex
	refs    map[place]*pb.ContentRef
	failing map[place]bool
}

type place struct {
	archive   string
	partition int32
	offset    int64
}

func newKept(b *bus.Bus) *kept {
	k := &kept{refs: map[place]*pb.ContentRef{}, failing: map[place]bool{}}
	k.follower = b.Follow([]string{schemas.Archives}, bus.Start{}, k.take)
	return k
}

func (k *kept) take(r bus.Record) error {
	var s pb.ArchiveState
	if proto.Unmarshal(r.Value, &s) != nil || s.Offset != 0 && s.Kept == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if s.Offset == 0 {
		if at := (place{archive: s.Archive, partition: s.Partition}); s.FailingMs != 0 {
			k.failing[at] = true
		} else {
			delete(k.failing, at)
		}
		return nil
	}
	k.refs[place{s.Archive, s.Partition, s.Offset - 1}] = s.Kept
	return nil
}

// of is where the content of a copy went; nil: nowhere. What was told of another
// content at that place is of an earlier topic of that name.
func (k *kept) of(archive string, partition int32, offset int64, content *pb.ContentRef) *pb.ContentRef {
	k.mu.Lock()
	defer k.mu.Unlock()
	ref := k.refs[place{archive, partition, offset}]
	if ref == nil || ref.MessageId != content.GetMessageId() || !bytes.Equal(ref.Sha256, content.GetSha256()) {
		return nil
	}
	return ref
}

// fails reports whether a process told that the partition's sink fails, and
// none since that it doesn't.
func (k *kept) fails(archive string, partition int32) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.failing[place{archive: archive, partition: partition}]
}

// forget drops what lies before a commit.
func (k *kept) forget(archive string, commits map[int32]int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for p := range k.refs {
		if at, ok := commits[p.partition]; p.archive == archive && ok && p.offset < at {
			delete(k.refs, p)
		}
	}
}

// keep copies what waits for long to hold, from time to time.
func (a *Archives) keep(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.kept.follower.CaughtUp():
	}
	for {
		for _, archive := range a.deps.Directory.Snapshot().Archives() {
			if err := a.keepOf(ctx, archive.Name); err != nil && ctx.Err() == nil {
				a.deps.Log.Warn("keeping what waits for an archive's sink failed, trying again", "stage", stageName, "archive", archive.Name, "err", err)
			}
		}
		t := time.NewTimer(a.cfg.Keep)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

// keepOf looks at what waits for one archive's sink, and measures it.
func (a *Archives) keepOf(ctx context.Context, name string) error {
	topic := schemas.Tap(name)
	commits, err := a.deps.Bus.Committed(ctx, schemas.SinkGroup(name), topic)
	if err != nil {
		return err
	}
	a.kept.forget(name, commits)
	retention, err := a.deps.Bus.Retention(ctx, schemas.Received)
	if err != nil || retention <= 0 {
		return err
	}
	until := a.deps.Now().Add(-sink.Patience(retention))
	start := bus.Start{Offset: map[string]map[int32]int64{topic: commits}, Until: until}
	return a.deps.Bus.Read(ctx, []string{topic}, start, func(r bus.Record) error { return a.keepRecord(ctx, name, r) })
}

// keepRecord copies one content and tells where. Two tappers that do it at once
// make two copies, of which the later is used.
func (a *Archives) keepRecord(ctx context.Context, name string, r bus.Record) error {
	var t pb.Tapped
	if proto.Unmarshal(r.Value, &t) != nil || !t.Full || t.Content.GetTopic() == schemas.Hold || a.kept.of(name, r.Partition, r.Offset, t.Content) != nil {
		return nil
	}
	ref, err := a.deps.Bus.Keep(ctx, t.Content)
	if errors.Is(err, bus.ErrContent) {
		return nil // the reader tells, when its turn comes
	}
	if err != nil {
		return fmt.Errorf("keep content of %s: %w", t.MessageId, err)
	}
	s := bus.NewArchiveState(&pb.ArchiveState{
		Archive: name, Partition: r.Partition, AtMs: a.deps.Now().UnixMilli(), Offset: r.Offset + 1, Kept: ref,
	})
	if err := a.deps.Bus.Publish(ctx, &s); err != nil {
		return err
	}
	a.metrics.kept.Inc()
	return a.kept.take(s)
}
