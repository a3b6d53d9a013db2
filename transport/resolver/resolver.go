// Package resolver finds the hosts that take mail for a domain, in the order
// in which they are to be tried (RFC 5321 5.1, RFC 7505), the addresses of
// a named host, and single kinds of records for who checks names and policies.
// It asks the configured servers itself, over UDP and, when an answer is cut,
// over TCP.
//
// Guarantee: only an authoritative "no such name", "no such record" or null MX
// is permanent. Everything else, time-outs and broken answers included, is
// temporary.
//
// Errors are or wrap a mail.Status. It does not validate DNSSEC.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"qstream/mail"
)

// Config says whom to ask. The zero value takes every default.
type Config struct {
	Servers  []string         // host:port; default: those of /etc/resolv.conf
	Timeout  time.Duration    // for one question to one server; default 3 s
	Tries    int              // rounds over the servers; default 2
	Total    time.Duration    // for all questions of one lookup; default 30 s
	MaxHosts int              // addresses that Mail returns at most; default 16
	Cache    int              // answers kept; default 10000
	MaxTTL   time.Duration    // upper bound of an answer's time to live; default 1 h
	Now      func() time.Time // default time.Now
}

// Host is one address of one host to try.
type Host struct {
	Name string // of the host, without final dot; the address itself for literals
	Addr netip.Addr
	Pref uint16 // of its MX record
}

// Resolver asks and remembers; it is safe for concurrent use.
type Resolver struct {
	cfg    Config
	system bool // no servers were given
	udp    *dns.Client
	tcp    *dns.Client
	cache  *cache
}

// New checks cfg and fills in defaults; it asks nothing yet.
func New(cfg Config) (*Resolver, error) {
	system := len(cfg.Servers) == 0
	if system {
		cfg.Servers = systemServers("/etc/resolv.conf")
	}
	for _, s := range cfg.Servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			return nil, fmt.Errorf("DNS server %q: %w", s, err)
		}
	}
	setDefault(&cfg.Timeout, 3*time.Second)
	setDefault(&cfg.Tries, 2)
	setDefault(&cfg.Total, 30*time.Second)
	setDefault(&cfg.MaxHosts, 16)
	setDefault(&cfg.Cache, 10000)
	setDefault(&cfg.MaxTTL, time.Hour)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Resolver{
		cfg: cfg, system: system,
		udp:   &dns.Client{Net: "udp", Timeout: cfg.Timeout},
		tcp:   &dns.Client{Net: "tcp", Timeout: cfg.Timeout},
		cache: newCache(cfg.Cache),
	}, nil
}

func setDefault[T int | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// systemServers reads the name servers of a resolv.conf; without any it is
// the one on this machine, as resolv.conf(5) says.
func systemServers(path string) []string {
	var servers []string
	if conf, err := dns.ClientConfigFromFile(path); err == nil {
		for _, s := range conf.Servers {
			servers = append(servers, net.JoinHostPort(s, conf.Port))
		}
	}
	if len(servers) == 0 {
		servers = []string{"127.0.0.1:53"}
	}
	return servers
}

// The statuses that a lookup can end with.
var (
	errNoDomain = mail.Status{Code: 550, Enhanced: "5.1.2", Text: "no such domain"}
	errNoHost   = mail.Status{Code: 550, Enhanced: "5.4.4", Text: "no host that takes mail has an address"}
	errNullMX   = mail.Status{Code: 556, Enhanced: "5.1.10", Text: "the domain takes no mail (null MX)"}
	errLoop     = mail.Status{Code: 554, Enhanced: "5.4.6", Text: "the domain's best mail host is this one: mail loops back"}
	errNoAddr   = mail.Status{Code: 451, Enhanced: "4.4.4", Text: "the host that the route names has no address"}
	errTemp     = mail.Status{Code: 451, Enhanced: "4.4.3", Text: "DNS gave no usable answer"}
)

// Addresses are the addresses of a host that a route names, or of an address
// literal, IPv6 and IPv4 in turns. Unless servers are configured the system is
// asked, with its hosts file and search list. A host that is not found is
// temporary: the route is wrong, not the recipient.
func (r *Resolver) Addresses(ctx context.Context, name string) ([]Host, error) {
	if a, ok := literal(name); ok {
		return []Host{{Name: name, Addr: a}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Total)
	defer cancel()
	name = strings.TrimSuffix(name, ".")
	addrs, err := r.named(ctx, name)
	if permanent(err) || err == nil && len(addrs) == 0 {
		err = errNoAddr
	}
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", mail.Printable(name), err)
	}
	return interleave(name, 0, addrs), nil
}

func (r *Resolver) named(ctx context.Context, name string) ([]netip.Addr, error) {
	if lower := strings.ToLower(name); lower == "localhost" || strings.HasSuffix(lower, ".localhost") {
		// RFC 6761 6.3
		return []netip.Addr{netip.IPv6Loopback(), netip.AddrFrom4([4]byte{127, 0, 0, 1})}, nil
	}
	if !r.system {
		return r.addrs(ctx, name)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errTemp, err)
	}
	return addrs, nil
}

// addrs asks for AAAA and A. One family's failure is hidden by the other's
// success.
func (r *Resolver) addrs(ctx context.Context, name string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	var temp, last error
	for _, qtype := range []uint16{dns.TypeAAAA, dns.TypeA} {
		ans, err := r.ask(ctx, name, qtype)
		if err != nil {
			last = err
			if !permanent(err) {
				temp = err
			}
			continue
		}
		addrs = append(addrs, ans.addrs...)
	}
	switch {
	case len(addrs) > 0:
		return addrs, nil
	case temp != nil:
		return nil, temp
	case last != nil:
		return nil, last
	}
	return nil, errNoHost
}

// literal reads an IP address, bare or as an address literal of RFC 5321
// 4.1.3 ("[192.0.2.1]", "[IPv6:2001:db8::1]").
func literal(s string) (netip.Addr, bool) {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		s = s[1 : len(s)-1]
		if len(s) > 5 && strings.EqualFold(s[:5], "IPv6:") {
			s = s[5:]
		}
	}
	a, err := netip.ParseAddr(s)
	return a.Unmap(), err == nil
}

// interleave puts IPv6 and IPv4 addresses in turns, so that a broken family
// costs one time-out and not all of them.
func interleave(name string, pref uint16, addrs []netip.Addr) []Host {
	var v6, v4, hosts []Host
	for _, a := range addrs {
		h := Host{Name: name, Addr: a.Unmap(), Pref: pref}
		if h.Addr.Is4() {
			v4 = append(v4, h)
		} else {
			v6 = append(v6, h)
		}
	}
	for i := 0; i < max(len(v6), len(v4)); i++ {
		if i < len(v6) {
			hosts = append(hosts, v6[i])
		}
		if i < len(v4) {
			hosts = append(hosts, v4[i])
		}
	}
	return hosts
}

func permanent(err error) bool {
	var s mail.Status
	return errors.As(err, &s) && s.Permanent()
}
