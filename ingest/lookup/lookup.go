// Package lookup finds out what policies ask for: it reads the files they
// name, asks DNS, programs and other hosts.
//
// Guarantee: every question has an end, and only sessions that ask wait for
// it. No answer is a fault, never a no.
// Guarantee: programs, callouts and DNS questions at once are bounded, and so
// is what is remembered.
// Guarantee: a file that changes is noticed within two seconds; one that can't
// be read any more stays as it was, and that is logged.
package lookup

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/directory"
	"qstream/ingest/policy"
	"qstream/mail"
	"qstream/qmail"
	"qstream/transport/resolver"
)

// Config bounds the questions. Zero values take the defaults.
type Config struct {
	Hostname   string        // said in callouts; required
	DNSTimeout time.Duration // for all questions of one fact; default 10 s
	DNSAtOnce  int           // facts asked of DNS at once; default 1000
}

// Lookup finds facts out; it is safe for concurrent use.
type Lookup struct {
	cfg     Config
	dns     *resolver.Resolver
	log     *slog.Logger
	metrics *metrics
	asking  chan struct{} // one for each question to DNS
	files   *files
	known   *memory

	mu       sync.Mutex
	number   uint64 // of the directory that compiled belongs to
	compiled map[*directory.Policy]*compiled
}

// New checks cfg; it starts nothing. log and m may be nil.
func New(cfg Config, dns *resolver.Resolver, log *slog.Logger, m prometheus.Registerer, now func() time.Time) (*Lookup, error) {
	if cfg.Hostname == "" || dns == nil || now == nil {
		return nil, errors.New("lookup: no host name, resolver or clock")
	}
	if cfg.DNSTimeout <= 0 {
		cfg.DNSTimeout = 10 * time.Second
	}
	if cfg.DNSAtOnce <= 0 {
		cfg.DNSAtOnce = 1000
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Lookup{
		cfg: cfg, dns: dns, log: log, metrics: newMetrics(m), asking: make(chan struct{}, cfg.DNSAtOnce),
		files: newFiles(log, now), known: newMemory(now), compiled: map[*directory.Policy]*compiled{},
	}, nil
}

// compiled is a policy made ready.
type compiled struct {
	once     sync.Once
	settings policy.Settings // of what its document holds; files are not in it
	places   chan struct{}   // one for each program or callout at once
	rules    *qmail.Recipients
}

// ready is the compiled form of a policy of a snapshot.
func (l *Lookup) ready(number uint64, p *directory.Policy) *compiled {
	l.mu.Lock()
	if number > l.number { // what is gone is forgotten
		l.number = number
		clear(l.compiled)
	}
	c := l.compiled[p]
	if c == nil {
		c = &compiled{}
		l.compiled[p] = c
	}
	l.mu.Unlock()
	c.once.Do(func() { c.prepare(p) })
	return c
}

// prepare reads the texts. The directory has taken them, so they are sound.
func (c *compiled) prepare(p *directory.Policy) {
	s := &c.settings
	s.Policy, s.Variables = p, p.Variables
	s.BadMailFrom = inline(p.BadMailFrom, qmail.ParseList, s)
	s.BadRcptTo = inline(p.BadRcptTo, qmail.ParseList, s)
	s.BadHELO = inline(p.BadHELO, qmail.ParseList, s)
	s.MailFromRules = inline(p.MailFromRules, qmail.ParseSenderRules, s)
	s.BadMIMETypes = inline(p.BadMIMETypes, qmail.ParseMIMETypes, s)
	s.BadLoaderTypes = inline(p.BadLoaderTypes, qmail.ParseLoaderTypes, s)
	if r := p.Recipients; r != nil {
		c.places = make(chan struct{}, r.Concurrency)
		c.rules = inline(r.Rules, qmail.ParseRecipients, s)
	}
}

func inline[T any](src directory.Source, parse func(string) (*T, error), s *policy.Settings) *T {
	if src.Text == "" {
		return nil
	}
	made, err := parse(src.Text)
	s.Broken = s.Broken || err != nil
	return made
}

// Settings are what holds by a policy of a snapshot, nil for none, and the
// variables of the connection, which come first.
func (l *Lookup) Settings(snap *directory.Snapshot, p *directory.Policy, env map[string]string) *policy.Settings {
	var s policy.Settings
	if p != nil {
		s = l.ready(snap.Number, p).settings
		fromFile(l.files, p.BadMailFrom, qmail.ParseList, &s.BadMailFrom, &s.Broken)
		fromFile(l.files, p.BadRcptTo, qmail.ParseList, &s.BadRcptTo, &s.Broken)
		fromFile(l.files, p.BadHELO, qmail.ParseList, &s.BadHELO, &s.Broken)
		fromFile(l.files, p.MailFromRules, qmail.ParseSenderRules, &s.MailFromRules, &s.Broken)
		fromFile(l.files, p.BadMIMETypes, qmail.ParseMIMETypes, &s.BadMIMETypes, &s.Broken)
		fromFile(l.files, p.BadLoaderTypes, qmail.ParseLoaderTypes, &s.BadLoaderTypes, &s.Broken)
	}
	if err := s.Set(env); err != nil {
		l.log.Warn("variables of a connection rule", "stage", "ingest", "err", err)
	}
	return &s
}

func fromFile[T any](f *files, src directory.Source, parse func(string) (*T, error), into **T, broken *bool) {
	if src.File == "" {
		return
	}
	made, err := readText(f, src.File, parse)
	*into, *broken = made, *broken || err != nil
}

// Question is whom a recipient check is about.
type Question struct {
	Snapshot *directory.Snapshot
	Settings *policy.Settings
	Facts    *policy.Facts
	Env      func() []string // "NAME=value" for programs, asked when one runs; required
}

// Answer finds a fact out; ctx ends it, as a fault.
func (l *Lookup) Answer(ctx context.Context, need policy.Need, q Question) policy.Answer {
	started := time.Now()
	var a policy.Answer
	var what string
	switch need {
	case policy.SenderDNS:
		what, a = "sender_dns", l.takesMail(ctx, mail.Domain(q.Facts.Sender))
	case policy.HELODNS:
		what, a = "helo_dns", l.helo(ctx, q.Settings.HELO, q.Facts.HELO)
	case policy.OwnDomain:
		what, a = "own_domain", yesIf(q.Snapshot.Owner(mail.Domain(q.Facts.Sender)) != nil)
	case policy.MailboxHere:
		what, a = "mailbox", l.mailbox(ctx, q)
	default:
		return policy.Fault
	}
	l.metrics.asked(what, a, time.Since(started))
	return a
}

func yesIf(ok bool) policy.Answer {
	if ok {
		return policy.Yes
	}
	return policy.No
}

// dnsTurn asks DNS when there is room, within DNSTimeout.
func (l *Lookup) dnsTurn(ctx context.Context, ask func(context.Context) error) policy.Answer {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.DNSTimeout)
	defer cancel()
	select {
	case l.asking <- struct{}{}:
		defer func() { <-l.asking }()
	case <-ctx.Done():
		l.log.Info("no turn in time", "stage", "ingest", "question", "dns")
		return policy.Fault
	}
	err := ask(ctx)
	var status mail.Status
	switch {
	case err == nil:
		return policy.Yes
	case errors.As(err, &status) && status.Permanent():
		return policy.No
	}
	l.log.Debug("dns gave no answer to a policy", "stage", "ingest", "err", err)
	return policy.Fault
}

func (l *Lookup) takesMail(ctx context.Context, domain string) policy.Answer {
	return l.dnsTurn(ctx, func(ctx context.Context) error {
		_, err := l.dns.Mail(ctx, domain, nil)
		return err
	})
}

// errNoAddress is a name without an address.
var errNoAddress = mail.Status{Code: 550, Enhanced: "5.7.1", Text: "no address"}

func (l *Lookup) helo(ctx context.Context, how qmail.HELOCheck, name string) policy.Answer {
	if how == qmail.HELOMail {
		return l.takesMail(ctx, name)
	}
	if _, err := netip.ParseAddr(strings.TrimPrefix(strings.Trim(name, "[]"), "IPv6:")); err == nil && strings.HasPrefix(name, "[") {
		return policy.Yes
	}
	return l.dnsTurn(ctx, func(ctx context.Context) error {
		v4, err := l.dns.IPv4(ctx, name)
		if len(v4) > 0 {
			return nil
		}
		v6, err6 := l.dns.IPv6(ctx, name)
		if len(v6) > 0 {
			return nil
		}
		if err == nil && err6 == nil {
			return errNoAddress
		}
		return errors.Join(err6, err)
	})
}

// mailbox asks the methods in their order.
func (l *Lookup) mailbox(ctx context.Context, q Question) policy.Answer {
	p := q.Settings.Policy
	r := p.Recipients
	c := l.ready(q.Snapshot.Number, p)
	address := strings.ToLower(q.Facts.Recipient)
	if r.Lists(address) {
		return policy.Yes
	}
	worst := policy.No
	try := func(a policy.Answer) bool {
		if a == policy.Fault {
			worst = policy.Fault
		}
		return a == policy.Yes
	}
	switch {
	case r.CDB != "" && try(l.inCDB(r.CDB, address)):
	case r.Rules.Given() && try(l.byRules(ctx, c, q, address)):
	case len(r.Program) > 0 && try(l.program(ctx, c, q, r.Program, address)):
	case r.Callout != "" && try(l.callout(ctx, c, r, address)):
	default:
		return worst
	}
	return policy.Yes
}

// byRules asks as a recipients file says.
func (l *Lookup) byRules(ctx context.Context, c *compiled, q Question, address string) policy.Answer {
	r := q.Settings.Policy.Recipients
	rules := c.rules
	if r.Rules.File != "" {
		read, err := readText(l.files, r.Rules.File, qmail.ParseRecipients)
		if err != nil {
			return policy.Fault
		}
		rules = read
	}
	worst := policy.No
	for _, line := range rules.For(mail.Domain(address)) {
		a := policy.Yes
		switch line.Method {
		case qmail.AskCDB:
			a = l.inCDB(from(r.Home, line.File), address)
		case qmail.AskHelper:
			a = l.program(ctx, c, q, line.Args, address)
		}
		if a == policy.Yes {
			return policy.Yes
		}
		worst = max(worst, a)
	}
	return worst
}

// inCDB looks an address up, and then the one without its extension.
func (l *Lookup) inCDB(path, address string) policy.Answer {
	cdb, err := openCDB(l.files, path)
	if err != nil {
		return policy.Fault
	}
	keys := []string{address}
	if base, ok := qmail.Extension(address); ok {
		keys = append(keys, base)
	}
	for _, k := range keys {
		_, ok, err := cdb.Get(qmail.RecipientKey(k))
		switch {
		case err != nil:
			l.log.Warn("recipients cdb", "stage", "ingest", "path", path, "err", err)
			return policy.Fault
		case ok:
			return policy.Yes
		}
	}
	return policy.No
}

// turn is a place for a program or a callout; false: none within the time.
func (c *compiled) turn(ctx context.Context) bool {
	select {
	case c.places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *compiled) leave() { <-c.places }

// dial connects within ctx.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}
