// Package ingest is the edge: it takes mail in over SMTP, from other servers
// and from users, QMQP, QMTP and HTTP, and publishes it on the received topic. It
// keeps no state; any number of edges may run.
//
// Guarantee: 250, and K, is durable; see intake.
// Guarantee: it is no open relay unless the directory makes it one.
// Guarantee: submission, submissions and http take nothing from who hasn't
// signed in.
//
// The front ends are packages below it (smtpd, qmqpd, qmtpd, httpd); all of them
// drive intake.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"qstream/bus"
	"qstream/directory"
	"qstream/engine"
	"qstream/engine/engines"
	"qstream/ingest/gate"
	"qstream/ingest/greylist"
	"qstream/ingest/httpd"
	"qstream/ingest/idempotency"
	"qstream/ingest/intake"
	"qstream/ingest/lookup"
	"qstream/ingest/quota"
	"qstream/ingest/scan"
	"qstream/ingest/verify"
	"qstream/transport/resolver"
)

// Deps are what the edge works with. Bus and Directory are required; the
// directory follower is run by the caller.
type Deps struct {
	Bus       *bus.Bus
	Directory *directory.Follower
	Engine    func(engine.Spec) (engine.Engine, error) // makes what rules want asked; default engines.New
	Resolver  *resolver.Resolver                       // of connections' names and lists, for policies and verification; default: the system's name servers
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	Now       func() time.Time
	Failpoint func(name string)
}

// Ingest is the edge.
type Ingest struct {
	cfg    Config
	log    *slog.Logger
	dir    *directory.Follower
	gate   *gate.Gate
	intake *intake.Intake
	verify *intake.Verifier
	keys   *idempotency.Keys
	local  *httpd.Handler
	quota  *quota.Book
	scan   *scan.Scanner

	services []*service // SMTP first

	mu      sync.Mutex
	serving bool
}

// service is one protocol at one address.
type service struct {
	name, addr string
	serve      func(context.Context, net.Listener) error
	listener   net.Listener // nil before Listen
}

// New checks cfg and loads the certificate; it starts nothing.
func New(cfg Config, d Deps) (*Ingest, error) {
	if d.Bus == nil || d.Directory == nil {
		return nil, errors.New("ingest: no bus or no directory")
	}
	asked := cfg.Hostname
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	certs, err := loadCertificates(cfg.TLSCert, cfg.TLSKey, d.Log, d.Now)
	if err != nil {
		return nil, err
	}
	s := &Ingest{cfg: cfg, log: d.Log, dir: d.Directory}
	if d.Resolver == nil {
		if d.Resolver, err = resolver.New(resolver.Config{}); err != nil {
			return nil, err
		}
	}
	s.gate, err = gate.New(gate.Config{}, gate.Deps{
		Snapshot: s.snapshot, Resolver: d.Resolver, Log: d.Log, Metrics: d.Metrics, Now: d.Now,
	})
	if err != nil {
		return nil, err
	}
	facts, err := lookup.New(lookup.Config{Hostname: cfg.Hostname}, d.Resolver, d.Log, d.Metrics, d.Now)
	if err != nil {
		return nil, err
	}
	if s.verify, err = verifier(d); err != nil {
		return nil, err
	}
	s.quota, err = quota.New(quota.Config{
		Bus: d.Bus, Edge: cfg.Hostname, Wanted: s.hasQuota, Now: d.Now, Log: d.Log, Metrics: d.Metrics,
	})
	if err != nil {
		return nil, err
	}
	if s.scan, err = scanner(cfg, d); err != nil {
		return nil, err
	}
	s.intake, err = intake.New(cfg.intake(asked), intake.Deps{
		Bus: d.Bus, Snapshot: s.snapshot, Lookup: facts, Verify: s.verify, Quota: s.quota, Scan: s.scan, Log: d.Log, Metrics: d.Metrics, Now: d.Now, Failpoint: d.Failpoint,
	})
	if err != nil {
		return nil, err
	}
	users, err := s.users(d)
	if err != nil {
		return nil, err
	}
	if err := s.addSMTP(d, certs, users); err != nil {
		return nil, err
	}
	if err := s.addHTTP(d, certs, users); err != nil {
		return nil, err
	}
	if err := s.addQMQP(d); err != nil {
		return nil, err
	}
	return s, s.addQMTP(d, certs)
}

// scanner is what asks engines within sessions.
func scanner(cfg Config, d Deps) (*scan.Scanner, error) {
	if d.Engine == nil {
		d.Engine = engines.New
	}
	return scan.New(cfg.MaxScans, scan.Deps{Engine: d.Engine, Log: d.Log, Metrics: d.Metrics, Now: d.Now})
}

// verifier is what asks who strangers' mail is from.
func verifier(d Deps) (*intake.Verifier, error) {
	checker, err := verify.New(verify.Config{Resolver: d.Resolver, Now: d.Now})
	if err != nil {
		return nil, err
	}
	list, err := greylist.New(greylist.Config{Bus: d.Bus, Now: d.Now, Log: d.Log, Metrics: d.Metrics})
	if err != nil {
		return nil, err
	}
	return &intake.Verifier{Checker: checker, Greylist: list}, nil
}

// snapshot is nil until the directory has been read.
func (s *Ingest) snapshot() *directory.Snapshot {
	select {
	case <-s.dir.Ready():
		return s.dir.Snapshot()
	default:
		return nil
	}
}

// hasQuota reports whether a tenant's or user's mail is counted; everybody's is
// until the directory has been read.
func (s *Ingest) hasQuota(tenant, user string) bool {
	snap := s.snapshot()
	return snap == nil || snap.Quota(tenant, user) != nil
}

// Listen opens the sockets, so that Addr is known before Run. Run does it by
// itself otherwise.
func (s *Ingest) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.services {
		if one.listener != nil {
			continue
		}
		l, err := net.Listen("tcp", one.addr)
		if err != nil {
			return fmt.Errorf("serve %s: %w", strings.ToUpper(one.name), err)
		}
		one.listener = l
	}
	return nil
}

// Addr is where SMTP is served; nil before Listen.
func (s *Ingest) Addr() net.Addr { return s.AddrOf(ServiceSMTP) }

// AddrOf is where a service is served: smtp, submission, submissions, qmqp,
// qmtp, qmtps or http; nil before Listen, and for one that isn't.
func (s *Ingest) AddrOf(name string) net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.services {
		if one.name == name && one.listener != nil {
			return one.listener.Addr()
		}
	}
	return nil
}

// Run serves until ctx ends and what was running then has finished, at most
// Config.Grace later. The end of one service ends all.
func (s *Ingest) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	defer s.intake.Wait()
	stop := s.follow(ctx)
	defer stop()
	s.serve(true)
	defer s.serve(false)
	all, ctx := errgroup.WithContext(ctx)
	for _, one := range s.services {
		s.log.Info("serving", "stage", "ingest", "service", one.name, "host", one.listener.Addr().String())
		all.Go(func() error { return one.serve(ctx, one.listener) })
	}
	return all.Wait()
}

// follow reads what the other edges have seen, until stop is called: running
// transactions may need it after ctx has ended.
func (s *Ingest) follow(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var following sync.WaitGroup
	following.Go(func() {
		if err := s.verify.Greylist.Run(ctx); err != nil {
			s.log.Error("greylist isn't followed any more", "stage", "ingest", "err", err)
		}
	})
	following.Go(func() {
		if err := s.keys.Run(ctx); err != nil {
			s.log.Error("idempotency keys aren't followed any more", "stage", "ingest", "err", err)
		}
	})
	following.Go(func() {
		if err := s.quota.Run(ctx); err != nil {
			s.log.Error("counts of quotas aren't followed any more", "stage", "ingest", "err", err)
		}
	})
	following.Go(func() { s.scan.Run(ctx, s.dir) })
	return func() { cancel(); following.Wait() }
}

func (s *Ingest) serve(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serving = on
}

// Ready is nil while mail can be taken.
func (s *Ingest) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.snapshot() == nil:
		return errors.New("ingest: directory not read yet")
	case !s.quota.Known():
		return errors.New("ingest: counts of quotas not read yet")
	case !s.serving:
		return errors.New("ingest: not serving")
	}
	return nil
}
