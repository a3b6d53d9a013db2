package sealed

import (
	"bytes"
	"context"
	"encoding/hex"
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
	s.lacking, s.print, s.active = max(s.lacking, n), nil, false
	return errNewer
}

// differ is errNewer where a log's writers have another key of the number of the
// newest here: what each seals is garbage to the other. While what was there is
// read, records behind it may still show that ours is the one that counts; of two
// that write at once the one with the lower name goes on, as for all else.
func (s *Set) differ(l *log, t Taken) error {
	n, print := l.fold.Other()
	if n == 0 || !s.read || s.active && t.Writer > writerName(s.writer) {
		return nil
	}
	if n > s.lacking {
		s.lacking, s.print = n, print
	}
	s.active = false
	return errNewer
}

// differs is differ for all logs, once what was there is read.
func (s *Set) differs() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = true
	for _, l := range s.order {
		if err := s.differ(l, Taken{}); err != nil {
			return err
		}
	}
	return nil
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
	s.mu.Lock()
	n, print := s.lacking, s.print
	s.mu.Unlock()
	if print == nil {
		s.cfg.Log.Error("vault's folder lacks a key that others have, standing by until it is there", "key", n)
	} else {
		s.cfg.Log.Error("vault's folder has another key of a number than the tapper that writes, standing by until that one's file is in its place; each is told by the beginning of its file's SHA-256",
			"key", n, "fingerprint", s.cfg.Keys.Print(n), "theirs", hex.EncodeToString(print))
	}
	for told := false; ; {
		err := s.cfg.Keys.reload(n, print)
		if err != nil && !told {
			told = true
			s.cfg.Log.Warn("vault's folder not read, trying again", "err", err)
		}
		if s.cfg.Keys.top() >= n && (print == nil || bytes.Equal(s.cfg.Keys.print(n), print)) {
			break
		}
		if !bus.Pause(ctx, s.quiet) {
			return false
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lacking, s.print = 0, nil
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
