package gate

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"qstream/mail"
)

// maxNames bounds how many of an address's names are verified.
const maxNames = 5

// name is the first name in the reverse tree that leads back to the address,
// as tcpserver -p verifies it; empty if there is none, or none in time.
func (g *Gate) name(ctx context.Context, ip netip.Addr) string {
	ctx, done := g.lookup(ctx, g.cfg.Wait, "name")
	defer done()
	names, err := g.deps.Resolver.Names(ctx, ip)
	if err != nil {
		g.failed("name", err)
		return ""
	}
	for _, name := range names[:min(len(names), maxNames)] {
		ask := g.deps.Resolver.IPv6
		if ip.Unmap().Is4() {
			ask = g.deps.Resolver.IPv4
		}
		addrs, err := ask(ctx, name)
		if err != nil {
			g.failed("name", err)
			continue
		}
		if slices.Contains(addrs, ip.Unmap().WithZone("")) {
			return strings.ToLower(strings.TrimSuffix(name, "."))
		}
	}
	return ""
}

// lookup is a place among those that ask the DNS, and the time for it. When
// too many ask, the time runs out in waiting for a place.
func (g *Gate) lookup(ctx context.Context, wait time.Duration, question string) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	started := g.deps.Now()
	finish := func() {
		cancel()
		g.metrics.seconds.WithLabelValues(question).Observe(g.deps.Now().Sub(started).Seconds())
	}
	select {
	case g.lookups <- struct{}{}:
		return ctx, func() { <-g.lookups; finish() }
	case <-ctx.Done():
		g.metrics.failures.WithLabelValues("turn").Inc()
		g.deps.Log.Info("no turn in time", "stage", "ingest", "question", question)
		return ctx, finish
	}
}

// failed counts an answer that did not come; "no such name" is one.
func (g *Gate) failed(question string, err error) bool {
	if permanent(err) {
		return false
	}
	g.metrics.failures.WithLabelValues(question).Inc()
	g.deps.Log.Debug("lookup", "stage", "ingest", "question", question, "err", mail.Printable(err.Error()))
	return true
}
