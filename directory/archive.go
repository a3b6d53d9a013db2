package directory

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"qstream/mail"
)

// Directions of mail that an archive is for.
const (
	DirectionIn   = "in"   // for domains of tenants
	DirectionOut  = "out"  // handed in by tenants' clients
	DirectionBoth = "both" // default
)

// Archive copies mail to a sink, openly: operators configure it and see it, and
// so does its tenant.
type Archive struct {
	Name string
	// Tenant, Queue and Domains say whose mail; those that are given must all
	// be true of a recipient. None: all mail.
	Tenant    string
	Queue     string
	Domains   []string // exact in A-labels, or ".suffix" for subdomains
	Direction string   // default DirectionBoth
	Envelope  bool     // without content
	Reports   bool     // the DSNs that qstream makes, too
	Sink      Sink
	// Partitions of its topic: so many copies are under way at once, and
	// order holds within one. Default 3.
	Partitions int32
	// Retention of its topic: what the sink doesn't take that long is lost.
	// Default: as long as legs are kept.
	Retention time.Duration
}

func newArchive() *Archive { return &Archive{Direction: DirectionBoth} }

var archiveKeys = []key[Archive]{
	{"kind", func(_ *Archive, v *value) { v.text() }},
	{"name", func(a *Archive, v *value) { a.Name = parsed(v, parseName) }},
	{"tenant", func(a *Archive, v *value) { a.Tenant = parsed(v, parseName) }},
	{"queue", func(a *Archive, v *value) { a.Queue = parsed(v, parseName) }},
	{"domains", func(a *Archive, v *value) {
		v.list(maxDomains, func(e *value) { a.Domains = append(a.Domains, parsed(e, parsePattern)) })
	}},
	{"direction", func(a *Archive, v *value) { a.Direction = v.oneOf(DirectionIn, DirectionOut, DirectionBoth) }},
	{"envelope", func(a *Archive, v *value) { a.Envelope = v.boolean() }},
	{"reports", func(a *Archive, v *value) { a.Reports = v.boolean() }},
	{"sink", func(a *Archive, v *value) { a.Sink = parsed(v, ParseSink) }},
	{"partitions", func(a *Archive, v *value) { a.Partitions = int32(v.integer(1, 100)) }},
	{"retention", func(a *Archive, v *value) { a.Retention = v.duration(day, maxDuration) }},
}

// completeArchive refuses what would be all mail by mistake.
func (r *reading) completeArchive(a *Archive, body ast.Node) {
	if slices.Contains(a.Domains, "*") {
		r.fail(body, `domains: "*" is all mail: leave domains out`)
	}
}

func (c *checker) checkArchive(d *Document, a *Archive) {
	if a.Tenant != "" && c.tenants[a.Tenant] == nil {
		c.fail(d, "tenant", "there is no tenant %q", a.Tenant)
	}
	if a.Queue != "" && c.queues[a.Queue] == nil {
		c.fail(d, "queue", "there is no queue %q", a.Queue)
	}
}

// Archives are the archives by name. Don't change them.
func (s *Snapshot) Archives() []*Archive {
	return slices.SortedFunc(maps.Values(s.archives), func(a, b *Archive) int { return strings.Compare(a.Name, b.Name) })
}

// Archive finds an archive by name; nil if none.
func (s *Snapshot) Archive(name string) *Archive { return s.archives[name] }

// Party is what a session and an envelope tell of a message, for archives.
type Party struct {
	Tenant      string // of the client, by its network or user; empty: a stranger
	ReversePath string
}

// Recipients are the indexes of the recipients that an archive is for. A
// tenant's archive of outgoing mail has all recipients of what the tenant's own
// clients handed in, who knew them; of other mail it has the tenant's own.
func (s *Snapshot) Recipients(a *Archive, p Party, addresses []string) []int {
	domains := patterns[bool]{}
	for _, d := range a.Domains {
		domains[d] = true
	}
	var meant []int
	sent := s.sent(a, p, domains)
	for i, address := range addresses {
		if s.meant(a, p, domains, sent, address) {
			meant = append(meant, i)
		}
	}
	return meant
}

// sent reports whether a message is the archive's because of who sent it. A
// domain in the reverse-path counts for its owner's clients only: anybody can
// write it.
func (s *Snapshot) sent(a *Archive, p Party, domains patterns[bool]) bool {
	if p.Tenant == "" || a.Direction == DirectionIn || a.Tenant != "" && a.Tenant != p.Tenant {
		return false
	}
	if len(domains) == 0 {
		return true
	}
	domain := mail.NormalDomain(mail.Domain(p.ReversePath))
	if _, _, ok := domains.find(domain); !ok {
		return false
	}
	owner := s.Owner(domain)
	return owner != nil && owner.Name == p.Tenant
}

func (s *Snapshot) meant(a *Archive, p Party, domains patterns[bool], sent bool, address string) bool {
	d := s.Decide(Question{Recipient: address, NullSender: p.ReversePath == "", Tenant: p.Tenant})
	if a.Queue != "" && d.Queue.Name != a.Queue {
		return false
	}
	if sent {
		return true
	}
	domain := mail.NormalDomain(s.here(mail.Domain(address)))
	owner := s.Owner(domain)
	if a.Direction == DirectionOut || a.Tenant != "" && (owner == nil || owner.Name != a.Tenant) {
		return false
	}
	if a.Direction == DirectionIn && owner == nil {
		return false
	}
	if len(domains) == 0 {
		return true
	}
	_, _, ok := domains.find(domain)
	return ok
}
