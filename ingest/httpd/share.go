package httpd

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// shares is memory that clients have in common. One client has a part of it at
// most, and waits for its own part first: so one that takes its time over many
// requests stands in nobody's way but its own.
type shares struct {
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

func newShares(all, most int64) *shares {
	return &shares{all: semaphore.NewWeighted(all), most: most, parts: map[string]*share{}}
}

// take waits until ctx ends for n octets, which are at most the client's part.
func (s *shares) take(ctx context.Context, who string, n int64) (release func(), err error) {
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

func (s *shares) enter(who string) *share {
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

func (s *shares) leave(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parts[who].users--; s.parts[who].users == 0 {
		delete(s.parts, who)
	}
}
