package order

import (
	"slices"
	"strings"
	"time"
)

// Message is what orders look at.
type Message struct {
	ReversePath string
	Recipients  []string
	Tenant      string                     // who submitted it; empty for strangers
	Owner       func(domain string) string // the tenant that owns a domain, "" for none; nil: nobody owns any
}

// Match is an order that covers a message, with the numbers of the recipients
// that it is about, ascending; there is one at least.
type Match struct {
	Tap        *Tap
	Recipients []int
}

// Matcher finds the orders that cover messages. It is immutable and safe for
// concurrent use. A message costs some look-ups for each recipient, whatever the
// number of orders, and a comparison for each rule such as "bob*@*".
type Matcher struct {
	taps  []*Tap
	rules []rule
	// By what a rule needs of the reverse-path, of a recipient, or of either; rules
	// without any such thing are compared with every message.
	senders, recipients index
	rest                []int
}

// rule is a compiled Rule of a tap.
type rule struct {
	tap               int
	sender, recipient *pattern
	domain, tenant    string
}

// index finds rules by address, domain, domain above, local part in whatever
// domain, and tenant.
type index struct{ address, domain, above, local, tenant map[string][]int }

func newIndex() index {
	return index{map[string][]int{}, map[string][]int{}, map[string][]int{}, map[string][]int{}, map[string][]int{}}
}

// Compile makes a matcher of the taps that are approved.
func Compile(taps []*Tap) *Matcher {
	m := &Matcher{senders: newIndex(), recipients: newIndex()}
	for _, t := range taps {
		if !t.Approved.Made() {
			continue
		}
		for _, r := range t.Order.Who {
			m.add(rule{tap: len(m.taps), sender: compiled(r.Sender), recipient: compiled(r.Recipient), domain: r.Domain, tenant: r.Tenant})
		}
		m.taps = append(m.taps, t)
	}
	return m
}

// compiled is a pattern of an order that was completed; nil for none.
func compiled(s string) *pattern {
	if s == "" {
		return nil
	}
	p, err := parsePattern(s)
	if err != nil { // not of Complete: it fits nothing
		return &pattern{local: "\x00", domain: "\x00"}
	}
	return &p
}

// add puts a rule where every message that it fits will find it: under one thing
// that it needs, the rarest first.
func (m *Matcher) add(r rule) {
	n := len(m.rules)
	m.rules = append(m.rules, r)
	switch {
	case r.recipient != nil && r.recipient.exact():
		put(m.recipients.address, r.recipient.key(), n)
	case r.sender != nil && r.sender.exact():
		put(m.senders.address, r.sender.key(), n)
	case r.recipient != nil && r.recipient.domain != "*":
		m.recipients.byDomain(r.recipient.domain, n)
	case r.sender != nil && !r.sender.null && r.sender.domain != "*":
		m.senders.byDomain(r.sender.domain, n)
	case r.domain != "":
		m.recipients.byDomain(r.domain, n)
		m.senders.byDomain(r.domain, n)
	case r.tenant != "":
		put(m.recipients.tenant, r.tenant, n)
		put(m.senders.tenant, r.tenant, n)
	case r.recipient != nil && !strings.Contains(r.recipient.local, "*"):
		put(m.recipients.local, r.recipient.local, n)
	case r.sender != nil && r.sender.null:
		put(m.senders.address, "", n)
	case r.sender != nil && !strings.Contains(r.sender.local, "*"):
		put(m.senders.local, r.sender.local, n)
	default:
		m.rest = append(m.rest, n)
	}
}

func put(m map[string][]int, key string, rule int) { m[key] = append(m[key], rule) }

func (x index) byDomain(domain string, rule int) {
	if above, ok := strings.CutPrefix(domain, "*"); ok {
		put(x.above, above, rule)
		return
	}
	put(x.domain, domain, rule)
}

// each calls f with every rule that an address may fit.
func (x index) each(a address, tenant string, f func(rule int)) {
	for _, n := range x.address[a.key] {
		f(n)
	}
	if tenant != "" {
		for _, n := range x.tenant[tenant] {
			f(n)
		}
	}
	if a.domain == "" {
		return
	}
	for _, n := range x.local[a.local] {
		f(n)
	}
	for _, n := range x.domain[a.domain] {
		f(n)
	}
	if len(x.above) == 0 {
		return
	}
	for i := 1; i < len(a.domain); i++ {
		if a.domain[i] == '.' {
			for _, n := range x.above[a.domain[i:]] {
				f(n)
			}
		}
	}
}

// fits is whether a rule is about a recipient of a message.
func (r *rule) fits(sender, recipient address, submitter, owner string) bool {
	return (r.sender == nil || r.sender.matches(sender)) &&
		(r.recipient == nil || r.recipient.matches(recipient)) &&
		(r.domain == "" || domainMatches(r.domain, sender.domain) || domainMatches(r.domain, recipient.domain)) &&
		(r.tenant == "" || r.tenant == submitter || r.tenant == owner)
}

// Match are the taps that cover a message accepted at that time, in the order
// of their requests: those in force as it arrives.
func (m *Matcher) Match(msg Message, accepted time.Time) []Match {
	return m.match(msg, func(t *Tap) bool { return t.Covers(accepted) })
}

// MatchPast are those that reach back to a message accepted before their
// approval.
func (m *Matcher) MatchPast(msg Message, accepted time.Time) []Match {
	return m.match(msg, func(t *Tap) bool { return t.CoversPast(accepted) })
}

// Taps are those that it matches by. Don't change the list.
func (m *Matcher) Taps() []*Tap { return m.taps }

func (m *Matcher) match(msg Message, covers func(*Tap) bool) []Match {
	if len(m.taps) == 0 {
		return nil
	}
	var found map[int][]int // recipients of each tap
	sender := addressOf(msg.ReversePath)
	var everyone []int // rules that all recipients are compared with
	add := func(n int) {
		if covers(m.taps[m.rules[n].tap]) {
			everyone = append(everyone, n)
		}
	}
	m.senders.each(sender, msg.Tenant, add)
	for _, n := range m.rest {
		add(n)
	}
	for i, text := range msg.Recipients {
		recipient, owner := addressOf(text), ""
		if msg.Owner != nil && recipient.domain != "" {
			owner = msg.Owner(recipient.domain)
		}
		try := func(n int) {
			r := &m.rules[n]
			of := found[r.tap]
			if len(of) > 0 && of[len(of)-1] == i || !r.fits(sender, recipient, msg.Tenant, owner) || !covers(m.taps[r.tap]) {
				return
			}
			if found == nil {
				found = map[int][]int{}
			}
			found[r.tap] = append(of, i)
		}
		m.recipients.each(recipient, owner, try)
		for _, n := range everyone {
			try(n)
		}
	}
	matches := make([]Match, 0, len(found))
	for tap, recipients := range found {
		matches = append(matches, Match{Tap: m.taps[tap], Recipients: recipients})
	}
	slices.SortFunc(matches, func(a, b Match) int { return byAge(a.Tap.Requested, b.Tap.Requested, a.Tap.Order.ID, b.Tap.Order.ID) })
	return matches
}
