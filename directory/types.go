// Package directory holds tenants, queues, pools, routes and rules as one
// immutable, numbered snapshot that every role follows.
package directory

import (
	"net/netip"
	"time"

	"qstream/mail"
)

// Snapshot is the directory at one number. It is immutable.
type Snapshot struct {
	Number uint64
	// fields are private to the package; see the methods
}

// Queue is a delivery queue (a QMQ instance).
type Queue struct {
	Name                   string
	Generation             uint32
	Number                 int
	Role                   string        // tenant, internet, spam, backup, bounces
	Pool                   string        // default "default"
	Lifetime               time.Duration // default 5d
	BounceLifetime         time.Duration // default 1d
	HoldExpiry             time.Duration // 0: lifetime stops while suspended
	Schedule               Schedule
	Concurrency            int     // default 120; 0 holds
	DestinationConcurrency int     // default 20
	Rate                   float64 // attempts a second, 0: unlimited
	Partitions             int32   // default 3
	Identity               Identity
	ContentClass           string
	QSBMF                  bool   // bounce format; default RFC 3464
	DoubleBounceTo         string // empty: discarded
}

// Identity is how a queue presents itself.
type Identity struct {
	Me        string // in DSNs and Received
	HELO      string
	SourceIPs []netip.Addr
}

// Tenant owns domains, networks and policies.
type Tenant struct {
	Name     string
	Domains  []string       // exact, ".suffix", or "*"
	Networks []netip.Prefix // clients that may relay, and whose mail is this tenant's
	Queue    string
	// DSN limits
	DSNRate int // per hour and recipient, default 100...
}

// Site is what belongs to nobody: host name, postmaster, double bounces.
type Site struct {
	Me         string
	Postmaster string
	// ...
}

// Route maps recipients to a transport.
type Route struct {
	Name       string
	Domain     string // exact, ".suffix", "*"
	NullSender bool
	Via        Via
}

// Via is a parsed transport URL.
type Via struct {
	Scheme string // smtp, lmtp, maildir, discard, error
	Host   string // "mx": look up MX records
	Port   int
	Path   string      // maildir folder, lmtp socket
	Status mail.Status // error:
}

// Schedule says when a deferred leg is tried again.
type Schedule struct{}

// Next is when to try again after attempt number attempt (from 1), for a
// message born at birth, at time now.
func (s Schedule) Next(birth, now time.Time, attempt int) time.Time { panic("todo") }

// Question is a recipient to be decided about.
type Question struct {
	Recipient  string
	NullSender bool   // the reverse-path is null: bounce routes apply
	Tenant     string // the submitting tenant, for domains nobody owns; may be empty
}

// Decision is the answer.
type Decision struct {
	Tenant      string
	Queue       *Queue
	Destination string // key of the queue topic: domain, host or store
	Route       string
	Via         Via
	Refusal     *mail.Status // unroutable or refused by route; Queue is still set
	Steps       []string     // how it was decided, for explain; only from Explain
}

func (s *Snapshot) Decide(q Question) Decision  { panic("todo") }
func (s *Snapshot) Explain(q Question) Decision { panic("todo") }

// Queue finds a queue by name; nil if none.
func (s *Snapshot) Queue(name string) *Queue   { panic("todo") }
func (s *Snapshot) Queues() []*Queue           { panic("todo") }
func (s *Snapshot) Tenant(name string) *Tenant { panic("todo") }
func (s *Snapshot) Site() Site                 { panic("todo") }

// Retired are purged generations whose topics may still hold legs.
func (s *Snapshot) Retired() []*Queue { panic("todo") }

// ByNetwork is the tenant whose networks hold addr (longest prefix); nil: none.
func (s *Snapshot) ByNetwork(addr netip.Addr) *Tenant { panic("todo") }

// Owner is the tenant that owns a domain; nil: none.
func (s *Snapshot) Owner(domain string) *Tenant { panic("todo") }
