package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

func open(t *testing.T, cfg Config) (*Broker, *bus.Bus) {
	t.Helper()
	k, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bus.Dial(bus.Config{Seeds: []string{k.Addr()}, Dial: k.Dial, Barrier: k.Barrier, Admit: k.Admit})
	if err != nil {
		t.Fatal(err)
	}
	return k, b
}

func received(i int) *bus.Record {
	r := bus.NewReceived(&pb.Received{Id: fmt.Sprintf("m%04d", i)})
	return &r
}

// TestCloseLetsTheDirectoryGo though a program that was being started at that moment
// still has the lock's file open.
func TestCloseLetsTheDirectoryGo(t *testing.T) {
	dir := t.TempDir()
	k, err := Start(Config{Dir: dir, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	inherited, err := unix.Dup(int(k.lock.File().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	if _, err := Start(Config{Dir: dir, MinFree: 1}); !errors.Is(err, ErrLocked) {
		t.Errorf("error %v while it is open, want ErrLocked", err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Start(Config{Dir: dir, MinFree: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestRestartKeepsWhatWasPublished(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for run := range 3 {
		k, b := open(t, Config{Dir: dir, MinFree: 1})
		if _, err := b.CreateTopics(t.Context(), schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if err := b.Publish(t.Context(), received(run*20+i)); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		if err := b.Read(t.Context(), []string{schemas.Received}, bus.Start{}, func(bus.Record) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		if n != (run+1)*20 {
			t.Fatalf("run %d: %d records, want %d", run, n, (run+1)*20)
		}
		b.Close()
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k, b := open(t, Config{Dir: dir})
	defer k.Close()
	defer b.Close()
	_, err := Start(Config{Dir: dir})
	if !errors.Is(err, ErrLocked) {
		t.Fatalf("second start: %v", err)
	}
	t.Log(err)
	barrier, err := Barrier(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := barrier(t.Context()); err != nil {
		t.Fatalf("barrier of another process: %v", err)
	}
}

func TestSizeCapRefusesNewMailOnly(t *testing.T) {
	t.Parallel()
	k, b := open(t, Config{Dir: t.TempDir(), MaxBytes: 1, MinFree: 1})
	defer k.Close()
	defer b.Close()
	if _, err := b.CreateTopics(t.Context(), schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), received(1)); !errors.Is(err, bus.ErrFull) {
		t.Fatalf("publish above the cap: %v", err)
	}
	e := bus.NewEvent(&pb.Event{MessageId: "m"})
	if err := b.Publish(t.Context(), &e); err != nil {
		t.Fatalf("publish of an event above the cap: %v", err)
	}
}

func TestGroupCommitSharesFlushesAndRemembersFailure(t *testing.T) {
	var mu sync.Mutex
	flushes, fail := 0, false
	g := &groupCommit{end: func() {}, flush: func() error {
		time.Sleep(2 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		flushes++
		if fail {
			return errors.New("input/output error")
		}
		return nil
	}}
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if err := g.wait(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if flushes > 50 {
		t.Errorf("%d flushes for 200 callers", flushes)
	}
	began := time.Now()
	if err := g.lostSince(began.Add(-time.Hour)); err != nil {
		t.Error(err)
	}
	mu.Lock()
	fail = true
	mu.Unlock()
	if g.wait(t.Context()) == nil {
		t.Error("a failed flush was told as durable")
	}
	mu.Lock()
	fail = false
	mu.Unlock()
	if g.wait(t.Context()) == nil {
		t.Error("a flush just after a failed one was trusted")
	}
	g.failed = g.failed.Add(-distrust)
	if err := g.wait(t.Context()); err != nil {
		t.Errorf("no recovery: %v", err)
	}
	if g.lostSince(began) == nil {
		t.Error("what was acknowledged before the failure is trusted since the disk recovered")
	}
	if err := g.lostSince(time.Now()); err != nil {
		t.Errorf("what came after the failure: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.wait(gone); err == nil {
		t.Error("a caller that is gone was told durable")
	}
	if err := g.close(); err != nil {
		t.Error(err)
	}
}

// TestSlowSyncDelaysTheAcknowledgement is what trials of slow disks rest on.
func TestSlowSyncDelaysTheAcknowledgement(t *testing.T) {
	t.Parallel()
	const slow = 300 * time.Millisecond
	k, b := open(t, Config{Dir: t.TempDir(), MinFree: 1, SlowSync: slow})
	defer k.Close()
	defer b.Close()
	if _, err := b.CreateTopics(t.Context(), schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := b.Publish(t.Context(), received(1)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < slow {
		t.Errorf("acknowledged after %v by a disk that needs %v", took, slow)
	}
}
