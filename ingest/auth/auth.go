// Package auth finds out who a client of the edge is: it makes the SASL
// exchanges (RFC 4422) of PLAIN, LOGIN, SCRAM-SHA-256 with and without channel
// binding, and EXTERNAL, against the directory's credentials and against a
// checkpassword program.
//
// Guarantee: a user who doesn't exist, a wrong password and a user who may not
// sign in look alike: the same reply after the same delay.
// Guarantee: checks take bounded memory and processors however many clients
// ask; who waits too long for a check hears a temporary refusal.
// Guarantee: no secret, and no name of a user who doesn't exist (people type
// passwords there), is logged.
//
// What a user may do then is the directory's and intake's matter.
package auth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/directory"
)

// Names of the mechanisms.
const (
	Plain     = "PLAIN"
	Login     = "LOGIN"
	Scram     = "SCRAM-SHA-256"
	ScramPlus = "SCRAM-SHA-256-PLUS"
	External  = "EXTERNAL"
)

// mechanisms are all there are, the strongest first.
var mechanisms = []string{External, ScramPlus, Scram, Plain, Login}

// Errors of an exchange. What wraps none of them is trouble of our own.
var (
	// ErrRejected is a client that isn't who it claims to be.
	ErrRejected = errors.New("authentication failed")
	// ErrMalformed is a response that breaks the mechanism's rules.
	ErrMalformed = errors.New("malformed response")
	// ErrBusy is a client that has to come again: too many ask at once, or
	// too many failures came from its network.
	ErrBusy = errors.New("too many sign in at the moment")
)

// Config are the bounds. Zero values take the defaults.
type Config struct {
	// Mechanisms to offer; empty: all that the users can sign in by, which
	// for SCRAM means that every password has a verifier and no program is
	// asked.
	Mechanisms []string
	// Program is a checkpassword program and its arguments, asked about users
	// without a password in the directory; empty: none.
	Program        []string
	ProgramTimeout time.Duration // default 10 s
	ProgramLimit   int           // programs at once; default 8
	Checks         int           // of passwords at once; default: half of the processors
	Memory         int64         // octets for them; default 256 MiB
	Wait           time.Duration // for a check's turn; default 10 s
	Delay          time.Duration // of a failure's reply, more after many; default 1 s
}

func (c Config) withDefaults() (Config, error) {
	for _, m := range c.Mechanisms {
		if !slices.Contains(mechanisms, m) {
			return c, errors.New("auth: unknown mechanism " + m)
		}
	}
	setDefault(&c.ProgramTimeout, 10*time.Second)
	setDefault(&c.ProgramLimit, 8)
	setDefault(&c.Checks, max(1, runtime.GOMAXPROCS(0)/2))
	setDefault(&c.Memory, 256<<20)
	setDefault(&c.Wait, 10*time.Second)
	setDefault(&c.Delay, time.Second)
	return c, nil
}

func setDefault[T int | int64 | time.Duration](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// Deps are what an Authenticator works with; Snapshot is required.
type Deps struct {
	// Snapshot is the directory's newest snapshot; nil while there is none.
	Snapshot func() *directory.Snapshot
	// ClientCAs vouch for names in client certificates; nil: only
	// fingerprints count.
	ClientCAs *x509.CertPool
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	Now       func() time.Time
}

// Authenticator makes exchanges; it is safe for concurrent use.
type Authenticator struct {
	cfg       Config
	deps      Deps
	metrics   *metrics
	checks    *turns
	known     *known
	penalties *penalties
	programs  chan struct{}
}

// New checks cfg; it starts nothing.
func New(cfg Config, d Deps) (*Authenticator, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if d.Snapshot == nil {
		return nil, errors.New("auth: no directory")
	}
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	return &Authenticator{
		cfg: cfg, deps: d, metrics: newMetrics(d.Metrics), checks: newTurns(cfg.Checks, cfg.Memory, cfg.Wait),
		known: newKnown(), penalties: newPenalties(), programs: make(chan struct{}, cfg.ProgramLimit),
	}, nil
}

// Client is who wants to sign in.
type Client struct {
	Addr netip.Addr
	TLS  *tls.ConnectionState // nil without TLS
}

// Identity is who signed in.
type Identity struct {
	User      string // as directory.NormalUser has it
	Mechanism string
	// Vouched says that a program of ours knows the user, so that the
	// directory need not.
	Vouched bool
}

// Mechanisms are those that a client may use, the strongest first.
func (a *Authenticator) Mechanisms(c Client) []string {
	snap := a.deps.Snapshot()
	if snap == nil {
		return nil
	}
	var all []string
	for _, m := range mechanisms {
		if a.offers(snap, c, m) {
			all = append(all, m)
		}
	}
	return all
}

func (a *Authenticator) offers(snap *directory.Snapshot, c Client, mechanism string) bool {
	asked := slices.Contains(a.cfg.Mechanisms, mechanism)
	if len(a.cfg.Mechanisms) > 0 && !asked {
		return false
	}
	switch mechanism {
	case External:
		return a.holder(snap, c) != nil
	case Scram:
		return asked || snap.AllSCRAM() && len(a.cfg.Program) == 0
	case ScramPlus:
		return (asked || snap.AllSCRAM() && len(a.cfg.Program) == 0) && bindingOf(c) != nil
	}
	return true
}

// holder is the user whom a client's certificate stands for; nil if none.
func (a *Authenticator) holder(snap *directory.Snapshot, c Client) *directory.Credential {
	for _, name := range certificateNames(c.TLS, a.deps.ClientCAs, a.deps.Now()) {
		if u := snap.CredentialOf(name); u != nil {
			return u
		}
	}
	return nil
}

// wait holds a failure's reply back until it is due.
func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
