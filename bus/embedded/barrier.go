package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"qstream/bus/dirlock"
)

// Barrier returns once everything that the broker acknowledged before the
// call is on the disk. All who wait share one flush.
func (b *Broker) Barrier(ctx context.Context) error { return b.group.wait(ctx) }

// Lost fails if a flush failed since then: what was acknowledged in between
// may never reach the disk, whatever a later Barrier returns. A caller who
// asks long after the acknowledgement needs both.
func (b *Broker) Lost(since time.Time) error { return b.group.lostSince(since) }

// Barrier is the barrier of a data directory whose broker runs in another
// process. It keeps the directory open for the life of this process.
func Barrier(dir string) (func(context.Context) error, error) {
	s, err := openSyncer(dataDir(dir))
	if err != nil {
		return nil, err
	}
	return newGroupCommit(s, 0).wait, nil
}

// distrust is how long after a failed flush barriers go on failing: the
// system forgets what it could not write, and an acknowledgement that is older
// than the failure may ask only now.
const distrust = time.Second

// groupCommit lets all who wait share a flush. Who comes while one runs waits
// for the next: it began before his records were acknowledged.
type groupCommit struct {
	flush func() error
	end   func()

	mu      sync.Mutex
	next    *round
	running bool
	failed  time.Time // of the last flush that failed, zero after one that held
	last    error
	lost    time.Time // of the last flush that failed, kept; under mu
	work    sync.WaitGroup
}

// round is a flush that has not begun.
type round struct {
	done chan struct{}
	err  error
}

func newGroupCommit(s *syncer, slow time.Duration) *groupCommit {
	flush := s.sync
	if slow > 0 {
		flush = func() error {
			time.Sleep(slow)
			return s.sync()
		}
	}
	return &groupCommit{flush: flush, end: s.close}
}

func (g *groupCommit) wait(ctx context.Context) error {
	g.mu.Lock()
	if g.next == nil {
		g.next = &round{done: make(chan struct{})}
	}
	r := g.next
	if !g.running {
		g.running = true
		g.work.Go(g.run)
	}
	g.mu.Unlock()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *groupCommit) run() {
	for {
		// Those whose records were acknowledged together with the first's
		// are about to come: one flush serves them all.
		runtime.Gosched()
		g.mu.Lock()
		r := g.next
		g.next = nil
		if r == nil {
			g.running = false
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		r.err = g.once()
		close(r.done)
	}
}

// once flushes, and fails for a while after a failure even if it succeeds.
func (g *groupCommit) once() error {
	began := time.Now()
	if err := g.flush(); err != nil {
		g.failed, g.last = time.Now(), err
		g.mu.Lock()
		g.lost = g.failed
		g.mu.Unlock()
		return fmt.Errorf("flush data directory: %w", err)
	}
	if g.last == nil {
		return nil
	}
	if began.Sub(g.failed) < distrust {
		return fmt.Errorf("flush data directory: an earlier flush failed: %w", g.last)
	}
	g.last = nil
	return nil
}

func (g *groupCommit) lostSince(since time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lost.IsZero() || g.lost.Before(since) {
		return nil
	}
	return fmt.Errorf("a flush of the data directory failed %s ago", time.Since(g.lost).Round(time.Millisecond))
}

// close flushes once more and lets the directory go.
func (g *groupCommit) close() error {
	g.work.Wait()
	err := g.flush()
	g.end()
	if err != nil {
		return fmt.Errorf("flush data directory: %w", err)
	}
	return nil
}

// lockDir takes the directory for this process.
func lockDir(dir string) (*dirlock.Lock, error) {
	path := dir + "/lock"
	lock, err := dirlock.Take(path)
	if errors.Is(err, dirlock.ErrTaken) {
		owner, _ := os.ReadFile(path)
		return nil, fmt.Errorf("%s: %w by process %s", dir, ErrLocked, owner[:min(len(owner), 32)])
	}
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	f := lock.File()
	if err := f.Truncate(0); err == nil {
		if _, err := fmt.Fprintf(f, "%d", os.Getpid()); err != nil {
			return nil, errors.Join(fmt.Errorf("write lock file: %w", err), lock.LetGo())
		}
	}
	return lock, nil
}
