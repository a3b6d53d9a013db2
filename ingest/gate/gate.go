// Package gate is what happens to a connection before its session, for every
// service of the edge: the PROXY header of a balancer, limits, connection
// rules, DNS lists and the wait for the greeting. What it does is told by the
// directory's rules document of the service, as it is at that moment.
//
// Guarantee: memory is bounded, however many addresses connect: by Table and
// the connections that are open.
// Guarantee: every wait has an end. DNS delays only connections that need it,
// by seconds; what it does not answer counts for nobody's harm.
// Guarantee: only listed balancers and clients are believed about who they
// come for.
//
// It speaks no protocol: what a refused client is told is its front end's
// matter.
package gate

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/directory"
	"qstream/mail"
	"qstream/qmail"
	"qstream/transport/resolver"
)

// Variables of rules that the edge itself looks at; others are for policies.
const (
	RelayClient   = "RELAYCLIENT"   // set: may send to any domain; the value is appended to each recipient
	DataBytes     = "DATABYTES"     // octets of a message; only lowers the listener's limit
	MaxRecipients = "MAXRECIPIENTS" // of a session
	RBLSMTPD      = "RBLSMTPD"      // text: recipients are refused with it, 451, or 553 behind "-"; empty: no lists are asked
	GreetDelay    = "GREETDELAY"    // seconds to wait with the greeting
)

// Deps are what a Gate works with; Snapshot and Resolver are required.
type Deps struct {
	// Snapshot is the directory's newest snapshot; nil while there is none.
	Snapshot func() *directory.Snapshot
	Resolver *resolver.Resolver
	Log      *slog.Logger
	Metrics  prometheus.Registerer
	Now      func() time.Time
}

// Config bounds a gate. Zero values take the defaults.
type Config struct {
	Table   int           // addresses and networks that are remembered; default 65536
	Lookups int           // connections that wait for DNS at once; default 256
	Wait    time.Duration // for a PROXY header, a client's name, and who its host says it is; default 5 s
	Ident   int           // port where hosts are asked who connected (RFC 1413); default 113
}

// Gate is what all services of a process share; it is safe for concurrent use.
type Gate struct {
	cfg     Config
	deps    Deps
	table   *table
	metrics *metrics
	lookups chan struct{}
}

// New checks d; it starts nothing.
func New(cfg Config, d Deps) (*Gate, error) {
	if d.Snapshot == nil || d.Resolver == nil {
		return nil, errors.New("gate: no directory or no resolver")
	}
	if cfg.Table <= 0 {
		cfg.Table = 65536
	}
	if cfg.Lookups <= 0 {
		cfg.Lookups = 256
	}
	if cfg.Wait <= 0 {
		cfg.Wait = 5 * time.Second
	}
	if cfg.Ident <= 0 {
		cfg.Ident = 113
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	g := &Gate{cfg: cfg, deps: d, table: newTable(cfg.Table), lookups: make(chan struct{}, cfg.Lookups)}
	g.metrics = newMetrics(d.Metrics, g.table.len)
	return g, nil
}

// Client is a connection that came through. Its fields don't change, but for
// a new one by As.
type Client struct {
	Service string
	Addr    netip.AddrPort // of the client, also behind a balancer
	Local   netip.AddrPort // that it connected to
	Name    string         // its verified reverse name, lower case; empty: none, or nobody needed it
	Info    string         // who connected, as its host says; empty: it doesn't, or no rule asks
	// Rule is the rule that was found; Line 0: none. Its Env are all variables
	// of the connection, also those that were there before the rule.
	Rule qmail.Rule
	// Refusal, if not nil, is the reply to each recipient.
	Refusal *mail.Status
	// XClient says that the client may send XCLIENT.
	XClient bool

	behind bool // a balancer, or another host: its own can't be asked
	held   []*entry
	gate   *Gate
}

// Var is a variable of the connection.
func (c *Client) Var(name string) (value string, set bool) {
	if c == nil {
		return "", false
	}
	value, set = c.Rule.Env[name]
	return value, set
}

// Number is a variable that holds a number; the directory takes no other.
func (c *Client) Number(name string) (n int64, set bool) {
	text, set := c.Var(name)
	n, err := strconv.ParseInt(text, 10, 64)
	return n, set && err == nil
}

// Leave gives back what the connection counts; call it once, at its end.
func (c *Client) Leave() {
	if c == nil || c.gate == nil {
		return
	}
	c.gate.table.leave(c.held)
	c.gate.metrics.open.WithLabelValues(c.Service).Dec()
}

// Refusal is why a connection does not come through.
type Refusal struct {
	Reason string      // of a closed set, as in the metric
	Status mail.Status // the reply, for services that can tell
	Quiet  bool        // the client is told nothing
}

// Door is the entrance of one service. A nil Door lets everybody in.
type Door struct {
	gate    *Gate
	service string
}

// Door is the entrance of a service, one of directory.Services.
func (g *Gate) Door(service string) *Door { return &Door{gate: g, service: service} }

// Enter decides about a connection of which nothing has been read. It takes as
// long as the waits that the rules ask for; ctx ends them. Either a client
// comes back, who must Leave, or a refusal.
func (d *Door) Enter(ctx context.Context, nc net.Conn) (*Client, *Refusal) {
	c := &Client{Addr: addrPort(nc.RemoteAddr()), Local: addrPort(nc.LocalAddr())}
	if d == nil {
		return c, nil
	}
	g := d.gate
	c.Service = d.service
	snap := g.deps.Snapshot()
	if snap == nil { // intake refuses mail until there is one
		c.gate = g
		g.metrics.enter(c.Service)
		return c, nil
	}
	rules := snap.ConnRules(d.service)
	refusal := g.enter(ctx, nc, rules, c)
	if refusal != nil {
		g.table.leave(c.held)
		g.refused(c, refusal)
		return nil, refusal
	}
	c.gate = g
	g.metrics.enter(c.Service)
	return c, nil
}

// enter is the way through, cheapest first.
func (g *Gate) enter(ctx context.Context, nc net.Conn, rules *directory.Rules, c *Client) *Refusal {
	if directory.Holds(rules.Proxy, c.Addr.Addr()) {
		if err := g.proxied(nc, c); err != nil {
			g.deps.Log.Warn("no proxy header", "stage", "ingest", "service", c.Service, "host", c.Addr.Addr().String(), "err", err)
			return &Refusal{Reason: "proxy", Quiet: true}
		}
		c.behind = true
	}
	c.XClient = directory.Holds(rules.XClient, c.Addr.Addr())
	var over string
	if c.held, over = g.table.enter(c.Service, c.Addr.Addr(), rules.Limits, g.deps.Now()); over != "" {
		return &Refusal{Reason: over, Status: mail.Status{Code: 421, Enhanced: "4.7.0", Text: "too many connections, try again later"}}
	}
	if refusal := g.judge(ctx, rules, c); refusal != nil {
		return refusal
	}
	return g.greet(ctx, nc, rules, c)
}

// judge finds the client's rule and asks lists.
func (g *Gate) judge(ctx context.Context, rules *directory.Rules, c *Client) *Refusal {
	if c.Info == "" && !c.behind && c.Addr.IsValid() && rules.Rules.NeedsInfo() {
		c.Info = g.ident(ctx, c)
	}
	who := qmail.Client{IP: c.Addr.Addr(), Name: c.Name, Info: c.Info}
	snap := g.deps.Snapshot()
	if c.Name == "" && (rules.Rules.NeedsName(who) || snap != nil && snap.AsksNames()) {
		c.Name = g.name(ctx, c.Addr.Addr())
		who.Name = c.Name
	}
	rule, _ := rules.Rules.Find(who)
	rule.Env, rule.Unset = rule.Over(rules.Env), nil
	c.Rule = rule
	if c.Name == "" && rule.Env["HELOCHECK"] == "=" { // the greeting is compared with it
		c.Name = g.name(ctx, c.Addr.Addr())
	}
	if rule.Deny {
		return &Refusal{Reason: "denied", Quiet: !rules.Reply, Status: mail.Status{Code: 554, Enhanced: "5.7.1", Text: "you are not welcome here"}}
	}
	c.Refusal = g.listed(ctx, rules.DNSBL, c)
	return nil
}

// As is the client that a believed one says it comes for: name may be empty,
// then it is looked up if a rule needs it. It is judged by the rules and the
// lists; the connection goes on counting for who made it.
func (c *Client) As(ctx context.Context, addr netip.AddrPort, name string) (*Client, *Refusal) {
	n := *c
	n.Addr, n.Name, n.Rule, n.Refusal = addr, mail.NormalDomain(name), qmail.Rule{}, nil
	n.Info, n.behind = "", true
	if c.gate == nil {
		return &n, nil
	}
	snap := c.gate.deps.Snapshot()
	if snap == nil {
		return &n, nil
	}
	if refusal := c.gate.judge(ctx, snap.ConnRules(c.Service), &n); refusal != nil {
		c.gate.refused(&n, refusal)
		return nil, refusal
	}
	return &n, nil
}

func (g *Gate) refused(c *Client, r *Refusal) {
	g.metrics.refused(c.Service, r.Reason)
	g.deps.Log.Info("connection refused", "stage", "ingest", "service", c.Service, "host", c.Addr.Addr().String(),
		"reason", r.Reason, "line", c.Rule.Line)
}

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		p := t.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}
