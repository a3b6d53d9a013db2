package main

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"qstream/ledger"
	"qstream/ledger/audit"
)

// ledgerCmd runs the ledger alone.
type ledgerCmd struct {
	roleFlags
	askFlags
	DB string `name:"db" placeholder:"DIR" type:"path" default:"qstream-ledger" help:"Keep the view here; it is built again from the log when it is gone (default: ${default})."`
}

// askFlags say who may ask the ledger.
type askFlags struct {
	Ask        []netip.Prefix `placeholder:"NETWORK" help:"Networks whose hosts may ask over HTTP what waits and what became of messages, besides this host."`
	AuditEvery time.Duration  `name:"audit-every" placeholder:"TIME" help:"How often unfinished mail is counted against the events, negative for only by: qstream audit (default: 10m)."`
}

func (c *ledgerCmd) Run(ctx context.Context, p *Process) error {
	return c.run(ctx, p, c.askFlags.role(c.DB))
}
func (c *ledgerCmd) check(p *Process) error { return c.checkRoles(p, c.askFlags.role(c.DB)) }

func (f askFlags) role(dir string) role {
	return role{"ledger", func(g ground) (stage, error) {
		l, err := ledger.New(ledger.Config{Dir: dir, Audit: audit.Config{Every: f.AuditEvery}}, ledger.Deps{
			Bus: g.bus, Directory: g.directory, Control: g.control, Log: g.log, Metrics: g.metrics, Now: g.now,
		})
		if err != nil {
			return nil, err
		}
		return asked{l, f.Ask}, nil
	}}
}

// asked is the ledger for those who may ask: its answers name senders and
// recipients of all tenants.
type asked struct {
	*ledger.Ledger
	networks []netip.Prefix
}

func (a asked) Handler() http.Handler {
	answers := a.Ledger.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !a.admits(r) {
			http.Error(w, "ask from this host, or from a network that the process was told by --ask", http.StatusForbidden)
			return
		}
		answers.ServeHTTP(w, r)
	})
}

// admits reports whether a request comes from this host or a network that may
// ask. A page that somebody's browser shows on this host may not: it names a
// domain of its own.
func (a asked) admits(r *http.Request) bool {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	from := peer.Addr().Unmap()
	if slices.ContainsFunc(a.networks, func(n netip.Prefix) bool { return n.Contains(from) }) {
		return true
	}
	return from.IsLoopback() && local(r.Host)
}

// local reports whether a Host field is an address or localhost.
func local(host string) bool {
	if at, err := netip.ParseAddrPort(host); err == nil {
		return at.IsValid()
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	name, _, _ := strings.Cut(host, ":")
	return name == "localhost"
}
