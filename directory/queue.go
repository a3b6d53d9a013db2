package directory

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"qstream/schemas"
)

// Roles of queues.
const (
	RoleTenant   = "tenant"
	RoleInternet = "internet"
	RoleSpam     = "spam"
	RoleBackup   = "backup"
	RoleBounces  = "bounces"
)

// Queue is a delivery queue (a QMQ instance): topics of its own, a lifetime,
// a retry schedule, concurrency and an identity.
type Queue struct {
	Name string
	// Generation counts the topics of this name, from 1: a queue that returns
	// after it was purged, or whose pool or number of partitions changed, gets
	// the next. Set by the snapshot.
	Generation             uint32
	Shared                 bool          // by the mail of several tenants; set by the snapshot
	Number                 int           // for people, as in conf-qmq; 0: none
	Role                   string        // tenant (default), internet, spam, backup, bounces
	Pool                   string        // its deliver workers; default "default"
	Lifetime               time.Duration // from the append time of the received record; default 5d
	BounceLifetime         time.Duration // the same for null reverse-paths; default 1d
	HoldExpiry             time.Duration // longest time that a suspension stops the lifetime; 0: as long as it lasts
	Schedule               Schedule      // default: quadratic 20
	Concurrency            int           // attempts at once; default 120; 0 holds
	DestinationConcurrency int           // attempts at once to one destination; default 20
	Rate                   float64       // attempts a second; 0: unlimited
	Partitions             int32         // of its topics; default 3
	Identity               Identity
	ContentClass           string // retention class of large content; default "default"
	QSBMF                  bool   // bounces in qmail's format; default RFC 3464
	DoubleBounceTo         string // default: the site's; empty: discarded
	Scan                   string // the scan policy of its mail; empty: none, but for tenants with their own
	Shadow                 string // the policy that Scan is compared with; empty: that policy's own
	Scanned                bool   // it has a scan topic; set by the snapshot
}

// Identity is how a queue presents itself.
type Identity struct {
	Me        string       // in DSNs; default: the site's me, empty if that is
	HELO      string       // default: Me
	SourceIPs []netip.Addr // bound to by outgoing connections; empty: the system's choice
}

func newQueue(name string) *Queue {
	return &Queue{
		Name:                   name,
		Generation:             1,
		Role:                   RoleTenant,
		Pool:                   schemas.DefaultPool,
		Lifetime:               5 * 24 * time.Hour,
		BounceLifetime:         24 * time.Hour,
		Schedule:               Schedule{Quadratic: defaultQuadratic},
		Concurrency:            120,
		DestinationConcurrency: 20,
		Partitions:             3,
		ContentClass:           schemas.DefaultClass,
	}
}

var queueKeys = []key[Queue]{
	{"kind", func(_ *Queue, v *value) { v.text() }},
	{"name", func(q *Queue, v *value) { q.Name = parsed(v, parseName) }},
	{"number", func(q *Queue, v *value) { q.Number = int(v.integer(0, 65535)) }},
	{"role", func(q *Queue, v *value) {
		q.Role = v.oneOf(RoleTenant, RoleInternet, RoleSpam, RoleBackup, RoleBounces)
	}},
	{"pool", func(q *Queue, v *value) { q.Pool = parsed(v, parseName) }},
	{"lifetime", func(q *Queue, v *value) { q.Lifetime = v.duration(time.Second, maxDuration) }},
	{"bounce_lifetime", func(q *Queue, v *value) { q.BounceLifetime = v.duration(time.Second, maxDuration) }},
	{"hold_expiry", func(q *Queue, v *value) { q.HoldExpiry = v.duration(time.Second, maxDuration) }},
	{"schedule", readSchedule},
	{"concurrency", func(q *Queue, v *value) { q.Concurrency = int(v.integer(0, 10000)) }},
	{"destination_concurrency", func(q *Queue, v *value) { q.DestinationConcurrency = int(v.integer(1, 1000)) }},
	{"rate", func(q *Queue, v *value) { q.Rate = v.number(0, 1e6) }},
	{"partitions", func(q *Queue, v *value) { q.Partitions = int32(v.integer(1, 256)) }},
	{"identity", func(q *Queue, v *value) { nested(v, &q.Identity, identityKeys) }},
	{"content_class", func(q *Queue, v *value) { q.ContentClass = parsed(v, parseName) }},
	{"bounce_format", func(q *Queue, v *value) { q.QSBMF = v.oneOf("rfc3464", "qsbmf") == "qsbmf" }},
	{"double_bounce_to", func(q *Queue, v *value) { q.DoubleBounceTo = parsed(v, parseMailbox) }},
	{"scan", func(q *Queue, v *value) { q.Scan = parsed(v, parseName) }},
	{"shadow", func(q *Queue, v *value) { q.Shadow = parsed(v, parseName) }},
}

var identityKeys = []key[Identity]{
	{"me", func(i *Identity, v *value) { i.Me = parsed(v, parseDomain) }},
	{"helo", func(i *Identity, v *value) { i.HELO = parsed(v, parseDomain) }},
	{"source_ips", func(i *Identity, v *value) {
		v.list(64, func(e *value) { i.SourceIPs = append(i.SourceIPs, parsed(e, parseAddr)) })
	}},
}

var scheduleKeys = []key[Schedule]{
	{"quadratic", func(s *Schedule, v *value) { s.Quadratic = int(v.integer(1, maxQuadratic)) }},
	{"steps", func(s *Schedule, v *value) {
		v.list(maxSteps, func(e *value) { s.Steps = append(s.Steps, e.duration(time.Second, maxDuration)) })
	}},
}

func readSchedule(q *Queue, v *value) {
	q.Schedule = Schedule{}
	nested(v, &q.Schedule, scheduleKeys)
	if (q.Schedule.Quadratic == 0) == (len(q.Schedule.Steps) == 0) {
		v.fail("wants either quadratic or steps")
	}
}

// Expires is when the lifetime of a message in this queue ends: born is the
// append time of its received record, stopped the time for which its lifetime
// stood still.
func (q *Queue) Expires(born time.Time, stopped time.Duration, nullSender bool) time.Time {
	life := q.Lifetime
	if nullSender {
		life = q.BounceLifetime
	}
	stopped = max(stopped, 0)
	if q.HoldExpiry > 0 {
		stopped = min(stopped, q.HoldExpiry)
	}
	return born.Add(life + stopped)
}

// Topic is the queue's topic.
func (q *Queue) Topic() string { return schemas.Queue(q.Name, q.Generation) }

// ScanTopic is the topic of its legs that wait for a verdict.
func (q *Queue) ScanTopic() string { return schemas.Scan(q.Name, q.Generation) }

// longest is the time for which the received record of a message may be
// needed: its lifetime, then that of its bounce, and a day of grace.
func (q *Queue) longest() time.Duration {
	return q.Lifetime + q.BounceLifetime + 24*time.Hour
}

var nameSyntax = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// parseName checks the name of a document: it becomes part of topics' names.
func parseName(s string) (string, error) {
	if !nameSyntax.MatchString(s) {
		return "", fmt.Errorf("%q is no name: 1 to 40 of a-z, 0-9 and hyphen", s)
	}
	return s, nil
}

func parseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is no IP address", s)
	}
	if addr.IsMulticast() || addr.Is4In6() {
		return netip.Addr{}, errors.New("multicast and mapped addresses can't be used here: " + s)
	}
	return addr, nil
}
