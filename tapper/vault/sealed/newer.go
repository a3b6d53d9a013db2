package sealed

import (
	"context"
	"errors"
	"maps"

	"qstream/bus"
)

// errNewer is a record that counts and tells of a key that isn't there.
var errNewer = errors.New("the vault has a newer key")

// lack is errNewer once a log tells of a key that isn't there: its next records
// may be sealed with that, and what is written without having read them would
// make a log of its own, that a longer one could come to follow.
func (s *Set) lack(l *log) error {
	n := l.fold.Lacks()
	if n == 0 {
		return nil
	}
	s.lacking, s.active = max(s.lacking, n), false
	return errNewer
}

// lacks is the key that this process waits for; 0: none.
func (s *Set) lacks() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lacking
}

// awaitKey waits until the folder of the keys has the one that others have;
// false: ctx ended.
func (s *Set) awaitKey(ctx context.Context) bool {
	n := s.lacks()
	s.cfg.Log.Error("vault's folder lacks a key that others have, standing by until it is there", "key", n)
	for {
		if err := s.cfg.Keys.Reload(); err != nil {
			s.cfg.Log.Warn("vault's folder not read, trying again", "err", err)
		}
		if s.cfg.Keys.top() >= n {
			break
		}
		if !bus.Pause(ctx, s.quiet) {
			return false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lacking = 0
	s.cfg.Log.Info("vault's folder has the key, reading on", "key", n)
	return true
}

// places are where reading goes on: behind what was read.
func (s *Set) places(start bus.Start) bus.Start {
	s.mu.Lock()
	defer s.mu.Unlock()
	on := bus.Start{Offset: maps.Clone(start.Offset)}
	for _, l := range s.order {
		if l.next > 0 {
			on.Offset[l.Name] = map[int32]int64{0: l.next}
		}
	}
	return on
}
