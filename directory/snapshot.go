package directory

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"qstream/schemas"
)

// Snapshot is the directory at one number. It is immutable.
type Snapshot struct {
	Number uint64 // 0: nothing was applied yet

	docs       []Document
	site       Site
	queues     map[string]*Queue
	queueList  []*Queue
	tenants    map[string]*Tenant
	tenantList []*Tenant
	owners     patterns[*Tenant]
	networks   map[netip.Prefix]*Tenant
	bits       []int // prefix lengths in use, longest first
	routes     patterns[*Route]
	nullRoutes patterns[*Route]
	named      map[string]*Route // all routes
	policies   policies
	rules      map[string]*Rules
	history    lineage
	engines    map[string]*Engine
	scans      map[string]*ScanPolicy
	sessions   map[string]map[string]*SessionScan // by service and address of the rule
	archives   map[string]*Archive
	webhooks   map[string]*Webhook

	webhookList []*Webhook

	credentials  map[string]*Credential
	certificates map[string]*Credential
	allSCRAM     bool
	decoy        []byte
	quotas       bool // somebody has one

	memo *memo
}

// Build makes a snapshot of documents, each queue in its first generation,
// with number 0. The error is an Errors with all faults of the whole.
func Build(docs []Document) (*Snapshot, error) {
	return newSnapshot(0, docs, lineage{})
}

// newSnapshot checks documents as a whole and makes them fast to look up.
func newSnapshot(number uint64, docs []Document, history lineage) (*Snapshot, error) {
	s := &Snapshot{
		Number: number, docs: sorted(docs), history: history,
		queues: map[string]*Queue{}, tenants: map[string]*Tenant{},
		owners: patterns[*Tenant]{}, networks: map[netip.Prefix]*Tenant{},
		routes: patterns[*Route]{}, nullRoutes: patterns[*Route]{}, named: map[string]*Route{}, rules: map[string]*Rules{}, memo: newMemo(),
		credentials: map[string]*Credential{}, certificates: map[string]*Credential{},
		engines: map[string]*Engine{}, scans: map[string]*ScanPolicy{}, sessions: map[string]map[string]*SessionScan{}, archives: map[string]*Archive{}, webhooks: map[string]*Webhook{},
		policies: policies{strangers: patterns[*Policy]{}, relays: map[string]patterns[*Policy]{}},
	}
	c := &checker{Snapshot: s, claimed: map[string]*Document{}}
	for i := range s.docs {
		c.add(&s.docs[i])
	}
	c.addImplicit()
	c.references()
	if err := c.errs.err(); err != nil {
		return nil, err
	}
	s.finish()
	return s, nil
}

// finish fills in what is inherited and orders what is listed.
func (s *Snapshot) finish() {
	if s.site.Postmaster == "" && s.site.Me != "" {
		s.site.Postmaster = "postmaster@" + s.site.Me
	}
	s.scanned()
	s.relate(s.history)
	s.share()
	s.finishCredentials()
	for _, q := range s.queues {
		if q.Identity.Me == "" {
			q.Identity.Me = s.site.Me
		}
		if q.Identity.HELO == "" {
			q.Identity.HELO = q.Identity.Me
		}
		if q.DoubleBounceTo == "" {
			q.DoubleBounceTo = s.site.DoubleBounceTo
		}
	}
	s.queueList = slices.SortedFunc(maps.Values(s.queues), func(a, b *Queue) int { return strings.Compare(a.Name, b.Name) })
	s.tenantList = slices.SortedFunc(maps.Values(s.tenants), func(a, b *Tenant) int { return strings.Compare(a.Name, b.Name) })
	s.webhookList = sortedHooks(s.webhooks)
	lengths := map[int]bool{}
	for p := range s.networks {
		lengths[p.Bits()] = true
	}
	s.bits = slices.SortedFunc(maps.Keys(lengths), func(a, b int) int { return b - a })
}

// share finds the queues that mail of several tenants goes through: their own
// ones, and those that routes name, which may be anybody's.
func (s *Snapshot) share() {
	users := map[string]int{}
	for _, t := range s.tenants {
		users[t.Queue]++
	}
	for _, routes := range []patterns[*Route]{s.routes, s.nullRoutes} {
		for _, r := range routes {
			users[r.Queue] += 2
		}
	}
	for _, q := range s.queues {
		q.Shared = users[q.Name] > 1
	}
}

// relate gives the queues their generations; only before anybody else has s.
func (s *Snapshot) relate(l lineage) {
	s.history = l
	s.subscribe(l.subscribed)
	for _, q := range s.queues {
		q.Generation = l.generation(q.Name)
		q.Scanned = q.Scanned || l.scanned[q.Name] == q.Generation
	}
}

// Topics are the topics that the live queues and the archives need, content of
// the queues' classes included, where the received topic keeps mail for retention.
func (s *Snapshot) Topics(retention time.Duration) []schemas.Topic {
	var topics []schemas.Topic
	classes := map[string]bool{schemas.DefaultClass: true}
	for _, q := range s.queueList {
		size := schemas.Sizing{Mail: max(retention, q.longest())}
		topics = append(topics, size.Queue(q.Name, q.Generation, q.Pool, q.Partitions)...)
		if q.Scanned {
			topics = append(topics, size.Scan(q.Name, q.Generation, q.Pool, q.Partitions)...)
		}
		if !classes[q.ContentClass] {
			classes[q.ContentClass] = true
			topics = append(topics, size.Content(q.ContentClass)...)
		}
	}
	for _, a := range s.Archives() {
		topics = append(topics, schemas.Sizing{Mail: retention}.Tap(a.Name, a.Partitions, a.Retention)...)
	}
	return append(topics, s.eventTopics()...)
}

// Queue finds a live queue by name; nil if none.
func (s *Snapshot) Queue(name string) *Queue { return s.queues[name] }

// Queues are the live queues by name, implicit ones included. Don't change them.
func (s *Snapshot) Queues() []*Queue { return s.queueList }

// ContentClasses are the retention classes that content may be stored in: the
// default one and those that queues name, sorted.
func (s *Snapshot) ContentClasses() []string {
	classes := []string{schemas.DefaultClass}
	for _, q := range s.queueList {
		if q.ContentClass != "" {
			classes = append(classes, q.ContentClass)
		}
	}
	slices.Sort(classes)
	return slices.Compact(classes)
}

// Tenant finds a tenant by name; nil if none.
func (s *Snapshot) Tenant(name string) *Tenant { return s.tenants[name] }

// Route finds a route by name; nil if none.
func (s *Snapshot) Route(name string) *Route { return s.named[name] }

// Tenants are the tenants by name, the implicit one included. Don't change them.
func (s *Snapshot) Tenants() []*Tenant { return s.tenantList }

// Site is the site's own settings.
func (s *Snapshot) Site() Site { return s.site }

// Documents are the documents, by kind and name, without what is implicit.
func (s *Snapshot) Documents() []Document { return s.docs }

// Retired are generations of queues that were purged, or that were replaced
// because their pool or number of partitions changed, and whose topics may
// still hold legs. Only Name, Generation, Pool, Partitions and Scanned are theirs; the
// rest is as by default.
func (s *Snapshot) Retired() []*Queue { return s.history.queues() }

// ByNetwork is the tenant whose networks hold addr (longest prefix); nil: none.
func (s *Snapshot) ByNetwork(addr netip.Addr) *Tenant {
	addr = addr.Unmap().WithZone("")
	for _, bits := range s.bits {
		if p, err := addr.Prefix(bits); err == nil {
			if t := s.networks[p]; t != nil {
				return t
			}
		}
	}
	return nil
}

// Owner is the tenant that owns a domain; nil: none. The domain is compared
// without case, as A-labels.
func (s *Snapshot) Owner(domain string) *Tenant {
	d, err := parseDomain(s.here(domain))
	if err != nil {
		return nil
	}
	_, t, _ := s.owners.find(d)
	return t
}

// here is what a missing domain and localhost stand for: this site.
func (s *Snapshot) here(domain string) string {
	if domain != "" && domain != localhost {
		return domain
	}
	if s.site.Me != "" {
		return s.site.Me
	}
	return localhost
}

// CheckRetention refuses queues whose mail may live longer than the received
// topic keeps it: lifetime, then bounce lifetime, and a day. Retention below
// zero is for ever.
func (s *Snapshot) CheckRetention(retention time.Duration) error {
	if retention < 0 {
		return nil
	}
	var errs Errors
	for _, q := range s.queueList {
		if q.longest() <= retention {
			continue
		}
		reason := "lifetime " + FormatDuration(q.Lifetime) + ", bounce lifetime " + FormatDuration(q.BounceLifetime) +
			" and a day are together longer than the received topic keeps mail (" + FormatDuration(retention) +
			"): shorten them, or let it keep more (docs/operations.md, Lifetimes)"
		errs = append(errs, s.document(Ref{KindQueue, q.Name}).at("lifetime", reason))
	}
	return errs.err()
}

// document is a document by its name; one without a place if it is implicit.
func (s *Snapshot) document(ref Ref) *Document {
	i, ok := slices.BinarySearchFunc(s.docs, ref, func(d Document, r Ref) int { return compareRefs(d.Ref, r) })
	if !ok {
		return &Document{Ref: ref}
	}
	return &s.docs[i]
}

// Document is the document of a name; ok is false if there is none.
func (s *Snapshot) Document(ref Ref) (Document, bool) {
	d := s.document(ref)
	return *d, d.YAML != ""
}
