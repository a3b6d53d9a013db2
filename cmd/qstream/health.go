package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"qstream/bus"
	"qstream/control"
	"qstream/directory"
)

const (
	// maxSkew is how far this clock may be from the broker's.
	maxSkew = 30 * time.Second
	// maxStale is how old a followed view may be before work with it is
	// reported; stages have tighter limits of their own.
	maxStale = 10 * time.Second
	// pingEvery is how often the broker is asked; a check reads the last answer.
	pingEvery = 5 * time.Second
)

// health answers whether this process lives and whether it is fit for work.
// Safe for concurrent use.
type health struct {
	mu     sync.Mutex
	names  []string
	checks map[string]func() error
}

// add makes a check part of /readyz; nil is fit.
func (h *health) add(name string, check func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.checks == nil {
		h.checks = map[string]func() error{}
	}
	if _, known := h.checks[name]; !known {
		h.names = append(h.names, name)
	}
	h.checks[name] = check
}

// report asks every check.
func (h *health) report() (text string, fit bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	fit = true
	for _, name := range h.names {
		if err := h.checks[name](); err != nil {
			fit = false
			fmt.Fprintf(&b, "%s: %v\n", name, err)
		} else {
			fmt.Fprintf(&b, "%s: ok\n", name)
		}
	}
	return b.String(), fit
}

// live is /healthz: the process answers. A part that ends takes the process
// with it, so there is nothing more to ask.
func (h *health) live(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

// ready is /readyz: one line per check, 503 if any fails.
func (h *health) ready(w http.ResponseWriter, _ *http.Request) {
	text, fit := h.report()
	if !fit {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprint(w, text)
}

// pinger asks the broker again and again and remembers the last answer.
type pinger struct {
	bus *bus.Bus
	mu  sync.Mutex
	err error
}

func newPinger(b *bus.Bus) *pinger { return &pinger{bus: b, err: fmt.Errorf("not asked yet")} }

func (p *pinger) run(ctx context.Context) error {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		p.ask(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (p *pinger) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, pingEvery)
	defer cancel()
	err := p.bus.Ping(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *pinger) check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// checkClock fails while this clock is too far from the broker's.
func checkClock(b *bus.Bus) func() error {
	return func() error {
		if skew, ok := b.Skew(); ok && skew.Abs() > maxSkew {
			return fmt.Errorf("%v from the broker's clock, more than %v: nothing is attempted or expired", skew.Round(time.Millisecond), maxSkew)
		}
		return nil
	}
}

// checkFresh fails while a followed view is absent or old.
func checkFresh(ready <-chan struct{}, fresh, now func() time.Time) func() error {
	return func() error {
		select {
		case <-ready:
		default:
			return fmt.Errorf("not read yet")
		}
		if age := now().Sub(fresh()); age > maxStale {
			return fmt.Errorf("%v old", age.Round(time.Second))
		}
		return nil
	}
}

// watch adds what every role depends on.
func (h *health) watch(p *pinger, d *directory.Follower, c *control.Follower, now func() time.Time) {
	h.add("broker", p.check)
	h.add("clock", checkClock(p.bus))
	h.add("directory", checkFresh(d.Ready(), d.Fresh, now))
	h.add("directory records", d.Fault)
	h.add("control", checkFresh(c.Ready(), c.Fresh, now))
}
