package chain

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	pb "qstream/schemas/qstream/v1"
)

// ErrLost is a checkpoint that doesn't follow the newest: another was first,
// or it is a repetition.
var ErrLost = errors.New("doesn't follow the newest checkpoint")

// ErrKey says that a key signed a checkpoint that isn't trusted.
var ErrKey = fmt.Errorf("%w: by another key", ErrFalse)

// Place is how far a partition's chain is.
type Place struct {
	Next int64
	Head Hash
}

// State folds checkpoints, in the topic's order. The zero State, with a key,
// takes any first one: whoever needs the whole chain looks at its number.
type State struct {
	Trust func(ed25519.PublicKey) bool // nil: any key
	// Late says that reading began somewhere in the topic. A checkpoint that was
	// appended long after it was made is a repetition then, maybe by somebody who
	// wants others to begin with it, and isn't begun with.
	Late bool

	Number uint64
	Hash   Hash // of the newest body
	AtMs   int64
	Parts  map[Part]Place

	first bool // only one was taken, which may itself have lost
}

// Delay is how long a checkpoint may take to the topic, differences of clocks
// included.
const Delay = 10 * time.Minute

// Take is the next checkpoint of the topic, appended at that time. An error that wraps ErrLost says
// that readers ignore it; one that wraps ErrFalse that it is a forgery, or
// contradicts what was signed before.
func (s *State) Take(value []byte, at time.Time) (*Signed, error) {
	c, err := Open(value)
	if err != nil {
		return nil, err
	}
	if s.Trust != nil && !s.Trust(c.Key) {
		return nil, fmt.Errorf("checkpoint %d: %w", c.Number, ErrKey)
	}
	if s.Late && (s.Parts == nil || s.first && !s.follows(c)) && at.Sub(time.UnixMilli(c.AtMs)) > Delay {
		return nil, fmt.Errorf("checkpoint %d, which is older than its record: %w", c.Number, ErrLost)
	}
	if s.Parts != nil && !s.follows(c) {
		if !s.first || c.Number != s.Number+1 {
			return nil, fmt.Errorf("checkpoint %d after %d: %w", c.Number, s.Number, ErrLost)
		}
		s.Parts = nil // reading began with one that had lost
	}
	next, err := s.extend(c)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %d: %w", c.Number, err)
	}
	s.first = s.Parts == nil
	c.First = s.first
	s.Number, s.Hash, s.AtMs, s.Parts = c.Number, c.Hash, c.AtMs, next
	return c, nil
}

func (s *State) follows(c *Signed) bool {
	return c.Number == s.Number+1 && string(c.Before) == string(s.Hash[:])
}

// extend checks that the links continue the chains.
func (s *State) extend(c *Signed) (map[Part]Place, error) {
	next := make(map[Part]Place, len(c.Links))
	for part, at := range s.Parts {
		next[part] = at // a partition that isn't told of stays
	}
	for _, l := range c.Links {
		p := PartOf(l)
		if len(l.Head) != len(Hash{}) || l.Next < l.From || l.Count > l.Next-l.From {
			return nil, fmt.Errorf("%w: a link of %s/%d makes no sense", ErrFalse, l.Topic, l.Partition)
		}
		at, known := s.Parts[p]
		if known && (l.From < at.Next || Head(at.Head, l) != Hash(l.Head)) {
			return nil, fmt.Errorf("%w: %s/%d doesn't continue at %d", ErrFalse, l.Topic, l.Partition, at.Next)
		}
		next[p] = Place{l.Next, Hash(l.Head)}
	}
	return next, nil
}

// Chain is the next checkpoint's content; leaves are those of each partition
// that has new ones.
func (s *State) Chain(atMs int64, writer string, links []*pb.Link) *pb.Chained {
	c := &pb.Chained{Number: s.Number + 1, AtMs: atMs, Writer: writer, Links: links}
	if s.Number > 0 {
		c.Before = s.Hash[:]
	}
	return c
}
