package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"qstream/test/bench/load"
	"qstream/test/bench/peer"
	"qstream/test/fakedns"
)

// Trial is what one case did to one peer once. Of each window there is a
// figure for the quiet tenant and one for the healthy destination of the noisy
// one.
type Trial struct {
	Case, Peer  string
	At          time.Time
	Accepted    int     // mails of the noise
	Refused     int     // of the noise
	Seconds     float64 // that accepting them took
	CPU         float64 // seconds of the peer in the noisy window, its broker included
	IdleCPU     float64 // the same in the quiet window
	Waiting     int     // mails of the noise not delivered, or still replayed, at the end of the noisy window
	Before      [2]Figure
	Load        [2]Figure
	Noisy       [2]Figure
	After       *[2]Figure `json:",omitempty"` // when the noise was over
	Foreign     float64    // CPU seconds a second that others took in the noisy window
	ForeignIdle float64    // the same in the quiet window
	Replay      *Replay    `json:",omitempty"`
}

// stage is a trial in progress.
type stage struct {
	cfg   config
	scene scene
	sink  *load.Sink
	peer  peer.Peer
	next  uint64           // number of the next mail
	seen  map[uint64]int64 // arrivals at the fast hosts
	noise int              // arrivals at the others
}

// perform makes one trial.
func perform(ctx context.Context, cfg config, s scene, p peer.Peer) (t Trial, err error) {
	sink, err := load.StartSink(s.hosts())
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	if s.Many > 0 {
		names, err := fakedns.StartAt("127.0.0.1:53", s.zone())
		if err != nil {
			return t, err
		}
		defer names.Close()
	}
	e, err := s.engines()
	defer e.close()
	if err != nil {
		return t, err
	}
	switch p := p.(type) {
	case *peer.Postfix:
		p.Site = s.site(sink, e)
	case *peer.QStream:
		p.Site = s.site(sink, e)
	}
	if err := p.Start(ctx); err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	g := &stage{cfg: cfg, scene: s, sink: sink, peer: p, next: 1, seen: map[uint64]int64{}}
	t, err = g.run(ctx)
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, p.Log())
	}
	return t, err
}

func (g *stage) run(ctx context.Context) (t Trial, err error) {
	t = Trial{Case: g.scene.Name, Peer: g.peer.Name(), At: time.Now().UTC().Truncate(time.Second)}
	if _, _, err = g.window(ctx, 40); err != nil { // to warm up
		return t, err
	}
	if g.scene.Replay > 0 {
		return t, g.replayed(ctx, &t)
	}
	if t.Before, t.IdleCPU, t.ForeignIdle, err = g.measured(ctx); err != nil {
		return t, err
	}
	if err := g.flood(ctx, &t); err != nil {
		return t, err
	}
	if !pause(ctx, g.cfg.settle) {
		return t, ctx.Err()
	}
	if t.Noisy, t.CPU, t.Foreign, err = g.measured(ctx); err != nil {
		return t, err
	}
	if t.Waiting = t.Accepted - g.noise; t.Waiting > 0 {
		return t, nil
	}
	after, _, _, err := g.measured(ctx)
	t.After = &after
	return t, err
}

// measured is a window alone on the machine, as far as the lock says so.
func (g *stage) measured(ctx context.Context) (f [2]Figure, cpu, foreign float64, err error) {
	unlock, err := lock(g.cfg.lock)
	if err != nil {
		return f, 0, 0, err
	}
	defer unlock()
	if g.cfg.started != nil {
		g.cfg.started(g.peer)
	}
	before, err := g.peer.Usage()
	if err != nil {
		return f, 0, 0, err
	}
	f, busy, err := g.window(ctx, g.cfg.mails)
	if err != nil {
		return f, 0, 0, err
	}
	after, err := g.peer.Usage()
	cpu = after.Since(before).Total().Seconds()
	return f, cpu, busy - cpu/(float64(g.cfg.mails)/g.cfg.rate), err
}

// window hands in n mails for the quiet tenant, and as many for the healthy
// destination, at a fixed rate, and waits for them. busy is the CPU seconds a
// second that all processes took.
func (g *stage) window(ctx context.Context, n int) (f [2]Figure, busy float64, err error) {
	var sent [2]load.Sent
	var wg sync.WaitGroup
	var errs [2]error
	was, began := machine(), time.Now()
	for i, s := range g.gentle() {
		g.next += uint64(n)
		wg.Go(func() { sent[i], errs[i] = s.Run(ctx, n) })
	}
	wg.Wait()
	busy = (machine() - was).Seconds() / time.Since(began).Seconds()
	if err := errors.Join(errs[:]...); err != nil {
		return f, 0, err
	}
	if err := g.collect(ctx, sent); err != nil {
		return f, 0, err
	}
	for i := range sent {
		f[i] = figureOf(sent[i], g.seen)
	}
	return f, busy, nil
}

// gentle are the sources of the quiet tenant and of the healthy destination.
func (g *stage) gentle() [2]*load.Source {
	var s [2]*load.Source
	for i, domain := range []string{quietDomain, healthyDomain} {
		s[i] = &load.Source{
			Addr: g.peer.Addr(), Domains: []string{domain}, Mails: g.cfg.quiet,
			Sessions: 8, Rate: g.cfg.rate, First: uint64(i+1)<<40 + g.next,
		}
	}
	return s
}

// collect waits until what was accepted has arrived, but no longer than
// patience.
func (g *stage) collect(ctx context.Context, sent [2]load.Sent) error {
	for end := time.Now().Add(g.cfg.patience); ; {
		took, err := g.sink.Take()
		if err != nil {
			return err
		}
		for _, a := range took.Arrivals {
			if a.Host >= noiseHost {
				g.noise++
			} else if _, again := g.seen[a.ID]; !again {
				g.seen[a.ID] = a.At
			}
		}
		if g.missing(sent) == 0 || time.Now().After(end) {
			return nil
		}
		if !pause(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
}

func (g *stage) missing(sent [2]load.Sent) (n int) {
	for _, s := range sent {
		for _, m := range s.Mails {
			if m.Accepted() && g.seen[m.ID] == 0 {
				n++
			}
		}
	}
	return n
}

// flood hands the noise in until all of it is accepted, while the quiet tenant
// and the healthy destination go on.
func (g *stage) flood(ctx context.Context, t *Trial) error {
	n := g.scene.count(g.peer, g.cfg.postfixMost)
	noise := &load.Source{
		Addr: g.peer.Addr(), Domains: g.scene.domains(), Mails: load.NewMails(g.scene.Size), First: 1 << 50,
		Sessions: g.scene.Sessions, Timeout: 5 * time.Minute,
	}
	beside, end := context.WithCancel(ctx)
	defer end()
	var wg sync.WaitGroup
	var sent [2]load.Sent
	var errs [2]error
	for i, s := range g.gentle() {
		wg.Go(func() { sent[i], errs[i] = s.Run(beside, 0) })
	}
	began := time.Now()
	loud, err := noise.Run(ctx, n)
	t.Seconds = time.Since(began).Seconds()
	end()
	wg.Wait()
	if err := errors.Join(err, errs[0], errs[1]); err != nil {
		return err
	}
	for _, m := range loud.Mails {
		if m.Accepted() {
			t.Accepted++
		} else {
			t.Refused++
		}
	}
	if t.Accepted == 0 {
		return fmt.Errorf("nothing of the noise was accepted: %w", loud.Err)
	}
	if err := g.collect(ctx, sent); err != nil {
		return err
	}
	for i := range sent {
		t.Load[i] = figureOf(sent[i], g.seen)
		g.next += uint64(len(sent[i].Mails)) + 100
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// aloneWithin is how long a window waits to be alone.
const aloneWithin = 10 * time.Second

// lock holds a file's lock, so that programs which agree on it measure one
// after the other; "" is none. While others share it for long, it shares it too:
// the trial tells how much of the machine they took.
func lock(path string) (func(), error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(aloneWithin); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			return func() { _ = f.Close() }, nil
		}
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil
}
