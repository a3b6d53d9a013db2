package directory

import (
	"fmt"
	"net/netip"
)

// Tenant is a customer: it owns domains and networks, its mail goes to its
// queue.
type Tenant struct {
	Name string
	// Domains are those it receives mail for: exact in A-labels, ".suffix"
	// for subdomains, "*" for all that nobody else owns.
	Domains []string
	// Networks are the clients that may relay, and whose mail is this
	// tenant's.
	Networks []netip.Prefix
	Queue    string // default: the queue of its own name
	DSNRate  int    // most DSNs to one recipient in an hour; default 100
	// Verify is what is asked about strangers' mail for its domains; nil:
	// nothing.
	Verify *Verification
	Scan   string // the scan policy of its mail; empty: its queue's
	Shadow string // the policy that is compared with it; empty: as its policy or queue says
	Quota  *Quota // nil: nothing is counted
	Events TenantEvents
}

const (
	maxDomains  = 100_000
	maxNetworks = 10_000
)

func newTenant(name string) *Tenant { return &Tenant{Name: name, Queue: name, DSNRate: 100} }

var tenantKeys = []key[Tenant]{
	{"kind", func(_ *Tenant, v *value) { v.text() }},
	{"name", func(t *Tenant, v *value) { t.Name = parsed(v, parseName) }},
	{"domains", func(t *Tenant, v *value) {
		v.list(maxDomains, func(e *value) { t.Domains = append(t.Domains, parsed(e, parsePattern)) })
	}},
	{"networks", func(t *Tenant, v *value) {
		v.list(maxNetworks, func(e *value) { t.Networks = append(t.Networks, parsed(e, parseNetwork)) })
	}},
	{"queue", func(t *Tenant, v *value) { t.Queue = parsed(v, parseName) }},
	{"dsn_rate", func(t *Tenant, v *value) { t.DSNRate = int(v.integer(0, 1_000_000)) }},
	{"scan", func(t *Tenant, v *value) { t.Scan = parsed(v, parseName) }},
	{"shadow", func(t *Tenant, v *value) { t.Shadow = parsed(v, parseName) }},
	{"verify", func(t *Tenant, v *value) { t.Verify = &Verification{}; nested(v, t.Verify, verificationKeys) }},
	{"quota", func(t *Tenant, v *value) { t.Quota = newTenantQuota(); nested(v, t.Quota, tenantQuotaKeys) }},
	{"events", func(t *Tenant, v *value) { nested(v, &t.Events, tenantEventsKeys) }},
}

// parseNetwork reads a prefix or an address. What would let most of the
// Internet relay is refused.
func parseNetwork(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" && !addr.Is4In6() {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q is no network: write 192.0.2.0/24, 2001:db8::/32 or an address", s)
	case p.Masked() != p:
		return netip.Prefix{}, fmt.Errorf("%q has bits behind its mask: write %s", s, p.Masked())
	case p.Addr().Is4() && p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 16:
		return netip.Prefix{}, fmt.Errorf("%q is so wide that it would make an open relay", s)
	}
	return p, nil
}
