package directory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"qstream/bus"
	"qstream/schemas"
)

// ErrNoNumber is a number that the directory never had.
var ErrNoNumber = errors.New("the directory has no such number")

// Past is one apply of the history.
type Past struct {
	Number uint64
	At     time.Time // append time
	Actor  string
	Note   string
	Edits  []Edit
}

// Read is the snapshot at the head of the topic.
func Read(ctx context.Context, b *bus.Bus) (*Snapshot, error) {
	head := newFold()
	if err := head.read(ctx, b); err != nil {
		return nil, err
	}
	return head.snapshot()
}

// ReadNumber is the snapshot of a number, which 0 is the empty one of.
func ReadNumber(ctx context.Context, b *bus.Bus, number uint64) (*Snapshot, error) {
	if number == 0 {
		return newFold().snapshot()
	}
	found, err := ReadNumbers(ctx, b, map[uint64]bool{number: true})
	if err != nil {
		return nil, err
	}
	if found[number] == nil {
		newest, err := Read(ctx, b)
		if err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %d; the newest is %d", ErrNoNumber, number, newest.Number)
	}
	return found[number], nil
}

// ReadNumbers are the snapshots of numbers, as far as the directory had them.
func ReadNumbers(ctx context.Context, b *bus.Bus, numbers map[uint64]bool) (map[uint64]*Snapshot, error) {
	f, found := newFold(), map[uint64]*Snapshot{}
	err := b.Read(ctx, []string{schemas.Directory}, bus.Start{}, func(r bus.Record) error {
		if _, err := f.take(r); err != nil || !numbers[f.number] {
			return nil // what doesn't count doesn't count here either
		}
		s, err := f.snapshot()
		if err != nil {
			return err
		}
		found[f.number] = s
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the directory: %w", err)
	}
	return found, nil
}

// History calls each for every apply, oldest first, with what it changed.
func History(ctx context.Context, b *bus.Bus, each func(Past) error) error {
	f, before := newFold(), map[Ref]string{}
	err := b.Read(ctx, []string{schemas.Directory}, bus.Start{}, func(r bus.Record) error {
		a, err := f.take(r)
		if err != nil {
			return nil // it lost, or is garbage: it is no part of the history
		}
		after := make(map[Ref]string, len(f.docs))
		for ref, e := range f.docs {
			after[ref] = e.doc.YAML
		}
		p := Past{Number: a.Number, At: r.Time, Actor: a.Actor, Note: a.Note, Edits: edits(before, after)}
		before = after
		return each(p)
	})
	if err != nil {
		return fmt.Errorf("read the directory's history: %w", err)
	}
	return nil
}
