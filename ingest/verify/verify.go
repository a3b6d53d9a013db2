// Package verify finds out whether a message is from whom it claims to be:
// SPF (RFC 7208), DKIM (RFC 6376, RFC 8463) and DMARC (RFC 7489), and writes
// down what it found (RFC 8601, and the checks of the received record).
//
// Guarantee: every question to DNS ends by Config.Timeout, and trouble of DNS
// never refuses mail for good.
// Guarantee: a message is read once, while it comes in; memory is bounded by
// Config.MaxHeader and Config.MaxBlank, whatever it holds.
// Guarantee: content is never changed. What is found is told by lines that go
// before it.
//
// It decides nothing by itself: whom to ask about what, and what follows, is
// said by the caller. Signatures with a body length (l=) count as failed.
package verify

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"qstream/mail"
	"qstream/transport/resolver"
)

// The results of a check, in the words of RFC 8601 2.7.
const (
	None      = "none"
	Pass      = "pass"
	Fail      = "fail"
	SoftFail  = "softfail"
	Neutral   = "neutral"
	TempError = "temperror"
	PermError = "permerror"
)

// Resolver is what is asked for records; *resolver.Resolver is one. No record
// is an empty answer, no such name a permanent mail.Status.
type Resolver interface {
	TXT(ctx context.Context, name string) ([]string, error)
	MX(ctx context.Context, name string) ([]resolver.Exchanger, error)
	IPv4(ctx context.Context, name string) ([]netip.Addr, error)
	IPv6(ctx context.Context, name string) ([]netip.Addr, error)
	Names(ctx context.Context, addr netip.Addr) ([]string, error)
}

// Config bounds the work. Zero values take the defaults; Resolver is required.
type Config struct {
	Resolver      Resolver
	Timeout       time.Duration    // for all questions of a check; default 20 s (RFC 7208 4.6.4)
	MaxSignatures int              // DKIM signatures of a message that are looked at; default 5
	MaxHeader     int              // octets of a header that is verified; default 256 KiB
	MaxBlank      int              // octets of line ends in a row in a body that is verified; default 64 KiB
	Now           func() time.Time // default time.Now
	Percent       func() int       // 0 to 99 at random, for DMARC's pct; default math/rand
}

// Checker checks; it is safe for concurrent use.
type Checker struct{ cfg Config }

// New checks cfg; it asks nothing yet.
func New(cfg Config) (*Checker, error) {
	if cfg.Resolver == nil {
		return nil, errors.New("verify: no resolver")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 20 * time.Second
	}
	if cfg.MaxSignatures <= 0 {
		cfg.MaxSignatures = 5
	}
	if cfg.MaxHeader <= 0 {
		cfg.MaxHeader = 256 << 10
	}
	if cfg.MaxBlank <= 0 {
		cfg.MaxBlank = 64 << 10
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Percent == nil {
		cfg.Percent = func() int { return rand.IntN(100) }
	}
	return &Checker{cfg: cfg}, nil
}

// maxText is the longest TXT record that is read: a key of 16,384 bits has
// 2,800 octets, and a longer one would only cost time.
const maxText = 4096

// texts asks for TXT records as the libraries want it: errors are
// *net.DNSError.
func (c *Checker) texts(ctx context.Context, name string) ([]string, error) {
	found, err := c.cfg.Resolver.TXT(ctx, strings.TrimSuffix(name, "."))
	if err != nil {
		return nil, dnsError(name, err)
	}
	kept := found[:0:0]
	for _, t := range found {
		if len(t) <= maxText {
			kept = append(kept, t)
		}
	}
	return kept, nil
}

// dnsError is an error of the resolver in the terms of package net.
func dnsError(name string, err error) error {
	var s mail.Status
	if errors.As(err, &s) && s.Permanent() {
		return &net.DNSError{Err: "no such domain", Name: mail.Printable(name), IsNotFound: true}
	}
	return &net.DNSError{Err: "no usable answer", Name: mail.Printable(name), IsTemporary: true, IsTimeout: errors.Is(err, context.DeadlineExceeded)}
}

// lookup is the resolver as the SPF library asks it, for one client.
type lookup struct {
	c  *Checker
	v6 bool // the client's family: only its addresses can match
	// instead are records that stand for those of DNS, each used once.
	instead map[string]string
}

func (l *lookup) LookupTXT(ctx context.Context, name string) ([]string, error) {
	key := mail.NormalDomain(strings.TrimSuffix(name, "."))
	if text, ok := l.instead[key]; ok {
		delete(l.instead, key)
		return []string{text}, nil
	}
	return l.c.texts(ctx, name)
}

func (l *lookup) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	found, err := l.c.cfg.Resolver.MX(ctx, strings.TrimSuffix(name, "."))
	if err != nil {
		return nil, dnsError(name, err)
	}
	var out []*net.MX
	for _, x := range found {
		if x.Host != "" { // the null MX has no address
			out = append(out, &net.MX{Host: x.Host, Pref: x.Pref})
		}
	}
	return out, nil
}

// LookupIPAddr asks for A records, and for a client with IPv6 also for AAAA:
// "exists" always means A (RFC 7208 5.7).
func (l *lookup) LookupIPAddr(ctx context.Context, name string) ([]net.IPAddr, error) {
	name = strings.TrimSuffix(name, ".")
	found, err := l.c.cfg.Resolver.IPv4(ctx, name)
	if err == nil && l.v6 {
		var more []netip.Addr
		more, err = l.c.cfg.Resolver.IPv6(ctx, name)
		found = append(found[:len(found):len(found)], more...)
	}
	if err != nil {
		return nil, dnsError(name, err)
	}
	var out []net.IPAddr
	for _, a := range found {
		out = append(out, net.IPAddr{IP: a.AsSlice()})
	}
	return out, nil
}

func (l *lookup) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return nil, dnsError(addr, err)
	}
	found, err := l.c.cfg.Resolver.Names(ctx, a)
	if err != nil {
		return nil, dnsError(addr, err)
	}
	return found, nil
}
