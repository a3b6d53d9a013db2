package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"qstream/test/bench/peer"
)

// Replay is what the verbs took that went on in a noisy window, the highest
// and, of times, the median of all that ended.
type Replay struct {
	Verbs    int     // that ended
	Messages int     // each read
	Matched  int     // each selected
	List     float64 // seconds
	Again    float64 // seconds of a redelivery
	CPU      float64 // seconds of either
	Memory   float64 // MB
}

// replayed is a trial of history: the noise is there and delivered before the
// quiet window, and is read again and again in the noisy one.
func (g *stage) replayed(ctx context.Context, t *Trial) (err error) {
	q, ok := g.peer.(*peer.QStream)
	if !ok {
		return fmt.Errorf("%s has no history", g.peer.Name())
	}
	if err := g.flood(ctx, t); err != nil {
		return err
	}
	if err := g.drained(ctx, t.Accepted); err != nil {
		return err
	}
	if !pause(ctx, g.cfg.settle) {
		return ctx.Err()
	}
	if t.Before, t.IdleCPU, t.ForeignIdle, err = g.measured(ctx); err != nil {
		return err
	}
	verbs := reading{peer: q, scene: g.scene, of: t.Accepted}
	over, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- verbs.run(ctx, over) }()
	t.Noisy, t.CPU, t.Foreign, err = g.measured(ctx)
	close(over)
	err = errors.Join(err, <-done)
	if err != nil {
		return err
	}
	t.Waiting = t.Accepted // they were read to the last
	t.Replay = verbs.figures()
	return nil
}

// drained waits until the noise is delivered.
func (g *stage) drained(ctx context.Context, n int) error {
	for last, moved := -1, time.Now(); g.noise < n; {
		took, err := g.sink.Take()
		if err != nil {
			return err
		}
		g.noise += len(took.Arrivals)
		if g.noise != last {
			last, moved = g.noise, time.Now()
		}
		if time.Since(moved) > g.cfg.patience {
			return fmt.Errorf("%d of %d mails of the past arrived", g.noise, n)
		}
		if !pause(ctx, 100*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

// reading is verbs that read history, one after the other.
type reading struct {
	peer  *peer.QStream
	scene scene
	of    int // messages of the past
	list  []peer.Verb
	again []peer.Verb
}

// run goes on until over; the last verb is waited for.
func (r *reading) run(ctx context.Context, over <-chan struct{}) error {
	meant := []string{"--outcome", "delivered", "--recipient", "@" + r.scene.domains()[0]}
	for {
		for _, kind := range []struct {
			args []string
			into *[]peer.Verb
		}{
			{[]string{"replay", "list", "--json"}, &r.list},
			{[]string{"replay", "redeliver", "--reason", "measured"}, &r.again},
		} {
			v, err := r.peer.Verb(ctx, append(kind.args, meant...)...)
			if err != nil {
				return err
			}
			if n, want := strings.Count(v.Out, "\n"), r.of/r.scene.Replay; n != want {
				return fmt.Errorf("%s: %d messages, want %d", strings.Join(kind.args, " "), n, want)
			}
			*kind.into = append(*kind.into, v)
			select {
			case <-over:
				return nil
			default:
			}
		}
	}
}

func (r *reading) figures() *Replay {
	all := slices.Concat(r.list, r.again)
	f := &Replay{Verbs: len(all), Messages: r.of, Matched: r.of / r.scene.Replay, List: middle(r.list), Again: middle(r.again)}
	for _, v := range all {
		f.CPU = max(f.CPU, v.CPU.Seconds())
		f.Memory = max(f.Memory, float64(v.Memory)/1e6)
	}
	return f
}

// middle is the median time in seconds; 0 of none.
func middle(of []peer.Verb) float64 {
	if len(of) == 0 {
		return 0
	}
	var all []time.Duration
	for _, v := range of {
		all = append(all, v.Took)
	}
	slices.Sort(all)
	return all[len(all)/2].Seconds()
}

// speed is how many messages a second a list has read.
func (r *Replay) speed() float64 {
	if r.List == 0 {
		return 0
	}
	return float64(r.Messages) / r.List
}

func (r *Replay) String() string {
	return fmt.Sprintf("%d verbs, each read %d messages and selected %d: list %.1f s (%.0f a second), redeliver %.1f s; CPU %.1f s, memory %.0f MB",
		r.Verbs, r.Messages, r.Matched, r.List, r.speed(), r.Again, r.CPU, r.Memory)
}
