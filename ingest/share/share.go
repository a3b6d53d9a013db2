// Package share parts what clients have in common, such as memory, so that none
// of them can have all of it.
//
// Guarantee: one client has its part at most, and waits for its own part first:
// one that takes its time over many messages stands in nobody's way but its own.
//
// It can't tell many hosts of one owner from many clients.
package share

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Shares is what clients have in common; safe for concurrent use.
type Shares struct {
	all  *semaphore.Weighted
	most int64 // of one client

	mu    sync.Mutex
	parts map[string]*share
}

// share is one client's part, while it uses it.
type share struct {
	part  *semaphore.Weighted
	users int
}

// New shares all among clients, of whom each has most of it at most.
func New(all, most int64) *Shares {
	return &Shares{all: semaphore.NewWeighted(all), most: most, parts: map[string]*share{}}
}

// Take waits for n for a client until ctx ends, whose error it returns; more
// than a client's part never comes. release gives it back, once.
func (s *Shares) Take(ctx context.Context, who string, n int64) (release func(), err error) {
	mine := s.enter(who)
	if err := mine.part.Acquire(ctx, n); err != nil {
		s.leave(who)
		return nil, err
	}
	if err := s.all.Acquire(ctx, n); err != nil {
		mine.part.Release(n)
		s.leave(who)
		return nil, err
	}
	return func() {
		s.all.Release(n)
		mine.part.Release(n)
		s.leave(who)
	}, nil
}

func (s *Shares) enter(who string) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := s.parts[who]
	if mine == nil {
		mine = &share{part: semaphore.NewWeighted(s.most)}
		s.parts[who] = mine
	}
	mine.users++
	return mine
}

func (s *Shares) leave(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parts[who].users--; s.parts[who].users == 0 {
		delete(s.parts, who)
	}
}
