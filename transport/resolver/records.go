package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"qstream/mail"
)

// Exchanger is an MX record as it is published. An empty Host is the root,
// the null MX (RFC 7505).
type Exchanger struct {
	Host string // without final dot
	Pref uint16
}

// keptOctets is the most text of one answer that the cache keeps, so that its
// memory is bounded whatever others publish.
const keptOctets = 4096

// TXT are the text records of a name, the strings of each joined without
// anything between (RFC 7208 3.3). No record of the type is an empty list; a
// name that doesn't exist is a permanent mail.Status, trouble a temporary one.
// The same holds for MX, IPs and Names.
func (r *Resolver) TXT(ctx context.Context, name string) ([]string, error) {
	a, err := r.records(ctx, name, dns.TypeTXT)
	return a.texts, err
}

// MX are the MX records of a name, in the order of the answer.
func (r *Resolver) MX(ctx context.Context, name string) ([]Exchanger, error) {
	a, err := r.records(ctx, name, dns.TypeMX)
	var found []Exchanger
	for _, m := range a.mx {
		found = append(found, Exchanger{Host: m.host, Pref: m.pref})
	}
	return found, err
}

// IPv4 are the A records of a name; no hosts file is looked at.
func (r *Resolver) IPv4(ctx context.Context, name string) ([]netip.Addr, error) {
	a, err := r.records(ctx, name, dns.TypeA)
	return a.addrs, err
}

// IPv6 are the AAAA records of a name; no hosts file is looked at.
func (r *Resolver) IPv6(ctx context.Context, name string) ([]netip.Addr, error) {
	a, err := r.records(ctx, name, dns.TypeAAAA)
	return a.addrs, err
}

// Names are the names that the reverse tree gives an address, unverified: who
// owns the address writes there what they like.
func (r *Resolver) Names(ctx context.Context, addr netip.Addr) ([]string, error) {
	name, err := dns.ReverseAddr(addr.Unmap().WithZone("").String())
	if err != nil {
		return nil, fmt.Errorf("names of %v: %w", addr, errNoDomain)
	}
	a, err := r.records(ctx, name, dns.TypePTR)
	return a.names, err
}

func (r *Resolver) records(ctx context.Context, name string, qtype uint16) (answer, error) {
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return answer{}, fmt.Errorf("%s of %s: %w", dns.TypeToString[qtype], mail.Printable(name), errNoDomain)
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Total)
	defer cancel()
	a, err := r.ask(ctx, name, qtype)
	if err != nil {
		return answer{}, fmt.Errorf("%s of %s: %w", dns.TypeToString[qtype], mail.Printable(name), err)
	}
	return a, nil
}

// octets is how much text an answer holds.
func (a answer) octets() int {
	n := 0
	for _, t := range a.texts {
		n += len(t)
	}
	for _, name := range a.names {
		n += len(name)
	}
	return n
}

// joined are the strings of a TXT record as one, octet for octet: the DNS
// library hands them out as zone files write them, with escapes.
func joined(parts []string) string {
	s := strings.Join(parts, "")
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\' || i+1 == len(s):
			b.WriteByte(s[i])
		case i+3 < len(s) && digit(s[i+1]) && digit(s[i+2]) && digit(s[i+3]):
			b.WriteByte((s[i+1]-'0')*100 + (s[i+2]-'0')*10 + s[i+3] - '0')
			i += 3
		default:
			i++
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func digit(c byte) bool { return c >= '0' && c <= '9' }
