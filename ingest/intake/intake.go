// Package intake takes messages in: the session that every protocol of the
// edge drives. It decides who may send to whom, stores content while it is
// read, and publishes the received record.
//
// Guarantee: Data returns nil only after all in-sync replicas have
// acknowledged the message.
// Guarantee: trouble of our own is temporary, and answered within
// Config.Timeout after the last octet.
// Guarantee: a stranger reaches only recipients in domains of tenants.
// Guarantee: memory is bounded, whatever the sizes and the number of sessions.
//
// It does not speak any protocol; smtpd and its siblings do.
package intake

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/directory"
	"qstream/ingest/gate"
	"qstream/ingest/lookup"
	"qstream/ingest/share"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Config bounds what is taken. Zero values take the defaults.
type Config struct {
	Hostname      string        // our name in records; required
	By            string        // our name in Received lines; default: the site's in the directory, else Hostname
	MaxSize       int64         // octets of content; default 50 MiB
	MaxRecipients int           // of one message; default 1000
	MaxHops       int           // Received lines; default 100
	Timeout       time.Duration // for storing; default 15 s
	Large         int           // messages above bus.InlineLimit taken at once, about 1 MiB of memory each; default 128
}

// Defaults.
const (
	DefaultMaxSize       = 50 << 20
	DefaultMaxRecipients = 1000
	DefaultMaxHops       = 100
	DefaultTimeout       = 15 * time.Second
	DefaultLarge         = 128
)

// Bus is what sessions need of a bus.Bus.
type Bus interface {
	Publish(ctx context.Context, rs ...*bus.Record) error
	Create(ctx context.Context, messageID, class string) *bus.Blob
	Open(ctx context.Context, ref *pb.ContentRef) (io.ReadCloser, error)
}

// Deps are what an Intake works with; Bus and Snapshot are required.
type Deps struct {
	Bus Bus
	// Snapshot is the directory's newest snapshot; nil while there is none.
	Snapshot func() *directory.Snapshot
	// Lookup finds out what policies ask for; nil: none are asked.
	Lookup *lookup.Lookup
	// Verify asks who strangers' mail is from; nil: nobody does.
	Verify *Verifier
	// Quota counts mail of who has a quota; nil: nobody's is.
	Quota Quotas
	// Scan asks engines about mail before it is accepted; nil: nobody does, and
	// what rules want scanned is left to the scanners.
	Scan      Scanner
	Log       *slog.Logger
	Metrics   prometheus.Registerer
	Now       func() time.Time
	Failpoint func(name string)
}

// Intake makes sessions; it is safe for concurrent use.
type Intake struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	large   *share.Shares // places of large messages that may be held
	pending sync.WaitGroup
}

// New checks cfg; it starts nothing.
func New(cfg Config, d Deps) (*Intake, error) {
	if cfg.Hostname == "" {
		return nil, errors.New("ingest: no host name")
	}
	if d.Bus == nil || d.Snapshot == nil {
		return nil, errors.New("ingest: no bus or no directory")
	}
	setDefault(&cfg.MaxSize, DefaultMaxSize)
	setDefault(&cfg.MaxRecipients, DefaultMaxRecipients)
	setDefault(&cfg.MaxHops, DefaultMaxHops)
	setDefault(&cfg.Timeout, DefaultTimeout)
	setDefault(&cfg.Large, DefaultLarge)
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Failpoint == nil {
		d.Failpoint = func(string) {}
	}
	return &Intake{cfg: cfg, deps: d, metrics: newMetrics(d.Metrics), large: share.New(int64(cfg.Large), int64(max(cfg.Large/2, 1)))}, nil
}

func setDefault[T int | int64 | time.Duration](v *T, to T) {
	if *v <= 0 {
		*v = to
	}
}

// Wait waits for what sessions gave up waiting for; call it when no session
// is left. It takes as long as the bus's own timeout at most.
func (in *Intake) Wait() { in.pending.Wait() }

// Client is who hands mail in. Texts are hostile.
type Client struct {
	Protocol pb.Protocol
	Addr     netip.AddrPort
	Name     string // by DNS; empty if not looked up
	HELO     string
	ESMTP    bool // it said EHLO
	TLS      *tls.ConnectionState
	MaxSize  int64 // octets of content; 0: Config.MaxSize
	Proven   bool  // by a certificate, or a rule of QMQP: it may relay anywhere
	// CertSender says that the sender must be the address in the certificate,
	// unless LOCALMFCHECK asks for something else.
	CertSender bool
	Gate       *gate.Client // what is known from before the session; nil: nothing
	User       string       // who signed in, as directory.NormalUser has it; empty: nobody
	Mechanism  string       // by which the user signed in
	Vouched    bool         // a program knows the user, or a host that is believed; the directory need not
	// Submission says that this is a service for users: they alone may send,
	// and what their programs forgot in a header is added.
	Submission bool
	// Complete adds these fields for clients of other services, too.
	Complete bool
	Env      map[string]string // variables that the connection's rule sets
	// Gone reports, at any time, that the client has closed its side and nothing
	// of it is left to be read; nil: nobody knows.
	Gone func() bool
}

// share names who shares with others what there is of the edge: a user, else an
// IPv4 address or an IPv6 /64.
func (c Client) share() string {
	if c.User != "" {
		return "user " + c.User
	}
	a := c.Addr.Addr().Unmap().WithZone("")
	if a.Is6() {
		if p, err := a.Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

// NewSession starts a session of a client; ctx ends it by force. The error is
// fit for the client.
func (in *Intake) NewSession(ctx context.Context, c Client) (*Session, error) {
	s := &Session{in: in, ctx: ctx, client: c}
	s.record = &pb.Session{
		Id:         mail.NewID(in.deps.Now()),
		Protocol:   c.Protocol,
		Edge:       in.cfg.Hostname,
		ClientIp:   c.Addr.Addr().Unmap().WithZone("").String(),
		ClientPort: uint32(c.Addr.Port()),
		ClientName: text(c.Name),
		Helo:       text(c.HELO),
		AuthUser:   text(c.User),
	}
	if !c.Addr.IsValid() {
		s.record.ClientIp = ""
	}
	if c.TLS != nil {
		s.record.TlsVersion = tls.VersionName(c.TLS.Version)
		s.record.TlsCipher = tls.CipherSuiteName(c.TLS.CipherSuite)
	}
	return s, nil
}

// refuse is a reply to the client; enhanced is "5.1.1".
func refuse(code int, enhanced, format string, args ...any) *smtp.SMTPError {
	e := &smtp.SMTPError{Code: code, Message: mail.Printable(fmt.Sprintf(format, args...))}
	if _, err := fmt.Sscanf(enhanced, "%d.%d.%d", &e.EnhancedCode[0], &e.EnhancedCode[1], &e.EnhancedCode[2]); err != nil {
		e.EnhancedCode = smtp.EnhancedCodeNotSet
	}
	return e
}

// ourFault is the reply to whatever went wrong here. What it was is for the
// log, not for the client.
func ourFault(err error) *smtp.SMTPError {
	if errors.Is(err, bus.ErrFull) {
		return refuse(452, "4.3.1", "no room at the moment, try again later")
	}
	return refuse(451, "4.3.0", "cannot store mail at the moment, try again later")
}
