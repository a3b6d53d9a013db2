package directory

import (
	"fmt"
	"iter"
	"net"
	"net/netip"
	"strings"
	"time"

	"qstream/mail"
)

// Verification is what the edge asks about who a stranger's mail is from, and
// what follows from it. The zero Verification asks nothing.
type Verification struct {
	SPF      SPF
	DKIM     bool
	DMARC    string // "", DMARCRecord or DMARCEnforce
	Greylist *Greylist
}

// SPF is how far a sender's SPF policy is followed.
type SPF struct {
	Level      int    // 0 off, 1 annotate, 2 defer on trouble of DNS, 3 refuse fail, 4 softfail, 5 neutral, 6 none
	Explain    string // for refused clients; macros of RFC 7208 7
	LocalRules string // SPF terms that count before a domain's own would fail
}

// What is done with mail that fails DMARC.
const (
	DMARCRecord  = "record"  // written down
	DMARCEnforce = "enforce" // refused, if its author's domain asks for that
)

// Greylist makes strangers come back.
type Greylist struct {
	Delay     time.Duration
	Window    time.Duration
	Lifetime  time.Duration
	AutoAllow int    // 0: never
	OnFault   string // GreylistPass or GreylistDefer
	Server    string // a policy server that is asked instead, host:port; empty: none
}

// What is done while nobody can tell whether a client was there before.
const (
	GreylistPass  = "pass"
	GreylistDefer = "defer"
)

// maxSPFText is the longest explanation, and the longest local rules.
const maxSPFText = 400

var verificationKeys = []key[Verification]{
	{"spf", func(c *Verification, v *value) { nested(v, &c.SPF, spfKeys) }},
	{"dkim", func(c *Verification, v *value) { c.DKIM = v.boolean() }},
	{"dmarc", func(c *Verification, v *value) { c.DMARC = v.oneOf(DMARCRecord, DMARCEnforce) }},
	{"greylist", func(c *Verification, v *value) {
		c.Greylist = &Greylist{
			Delay: 5 * time.Minute, Window: 48 * time.Hour, Lifetime: 35 * 24 * time.Hour, AutoAllow: 5, OnFault: GreylistPass,
		}
		nested(v, c.Greylist, greylistKeys)
		if c.Greylist.Delay >= c.Greylist.Window {
			v.fail("nobody could come back: the delay is not below the window")
		}
	}},
}

var spfKeys = []key[SPF]{
	{"level", func(s *SPF, v *value) { s.Level = int(v.integer(0, maxSPFLevel)) }},
	{"explain", func(s *SPF, v *value) { s.Explain = v.bounded(maxSPFText) }},
	{"local_rules", func(s *SPF, v *value) { s.LocalRules = v.bounded(maxSPFText) }},
}

var greylistKeys = []key[Greylist]{
	{"delay", func(g *Greylist, v *value) { g.Delay = v.duration(time.Second, 24*time.Hour) }},
	{"window", func(g *Greylist, v *value) { g.Window = v.duration(time.Minute, 14*24*time.Hour) }},
	{"lifetime", func(g *Greylist, v *value) { g.Lifetime = v.duration(time.Hour, 60*24*time.Hour) }},
	{"auto_allow", func(g *Greylist, v *value) { g.AutoAllow = int(v.integer(0, 1000)) }},
	{"on_fault", func(g *Greylist, v *value) { g.OnFault = v.oneOf(GreylistPass, GreylistDefer) }},
	{"server", func(g *Greylist, v *value) { g.Server = parsed(v, ParsePolicyServer) }},
}

// bounded is a text of at most n octets.
func (v *value) bounded(n int) string {
	s := v.text()
	if len(s) > n {
		v.fail("is longer than %d octets", n)
	}
	return s
}

// Verification is what strangers' mail to a domain is asked: by its policy, or
// else by the tenant who owns it; nil: nothing.
func (s *Snapshot) Verification(domain string) *Verification {
	if p := s.Policy(false, "", domain); p != nil && p.Verify != nil {
		return p.Verify
	}
	if owner := s.Owner(domain); owner != nil {
		return owner.Verify
	}
	return nil
}

// Verifications are all that mail to any domain may be asked.
func (s *Snapshot) Verifications() iter.Seq[*Verification] {
	return func(yield func(*Verification) bool) {
		for _, t := range s.Tenants() {
			if t.Verify != nil && !yield(t.Verify) {
				return
			}
		}
		for _, p := range s.policies.strangers {
			if p.Verify != nil && !yield(p.Verify) {
				return
			}
		}
	}
}

// maxSPFLevel is the strictest that qmail knows.
const maxSPFLevel = 6

// ParsePolicyServer reads a policy server as qmail's POSTGREY variable has it ("ip;port",
// port 60000 if it is left out), or host:port.
func ParsePolicyServer(s string) (string, error) {
	host, port, found := strings.Cut(s, ";")
	if !found {
		if h, p, err := net.SplitHostPort(s); err == nil {
			host, port = h, p
		}
	}
	if port == "" {
		port = "60000"
	}
	a, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		return "", fmt.Errorf("policy server %q is not ip;port", mail.Printable(s))
	}
	ap, err := netip.ParseAddrPort(net.JoinHostPort(a.String(), port))
	if err != nil || ap.Port() == 0 {
		return "", fmt.Errorf("policy server %q is not ip;port", mail.Printable(s))
	}
	return ap.String(), nil
}
