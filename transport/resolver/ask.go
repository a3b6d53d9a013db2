package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// mx is one MX record; an empty host is the root, the null MX.
type mx struct {
	pref uint16
	host string
}

// answer is what a question came to: records, or none of that type.
type answer struct {
	mx    []mx
	addrs []netip.Addr
	texts []string // TXT records, each with its strings joined
	names []string // PTR records
	err   error    // errNoDomain or errTemp
	until time.Time
}

// none reports an answer without records of the type.
func (a answer) none() bool {
	return len(a.mx)+len(a.addrs)+len(a.texts)+len(a.names) == 0
}

// failureTime is how long a failure is kept (RFC 9520 3.2): a thousand mails
// to a domain whose servers are dead don't wait a thousand times.
const failureTime = 5 * time.Second

// ask answers from the cache, or from the first server that says anything
// definite. A name that exists without records of the type is an empty answer.
func (r *Resolver) ask(ctx context.Context, name string, qtype uint16) (answer, error) {
	key := question{strings.ToLower(dns.Fqdn(name)), qtype}
	now := r.cfg.Now()
	if a, ok := r.cache.get(key, now); ok {
		return a, a.err
	}
	m := new(dns.Msg)
	m.SetQuestion(key.name, qtype)
	m.SetEdns0(1232, false) // DNS flag day 2020: never fragmented
	resp, err := r.exchange(ctx, m)
	if err != nil {
		if ctx.Err() == nil {
			r.cache.put(key, answer{err: err, until: now.Add(failureTime)}, now)
		}
		return answer{}, err
	}
	a := r.read(resp, key)
	a.until = now.Add(r.ttl(resp))
	if a.octets() <= keptOctets {
		r.cache.put(key, a, now)
	}
	return a, a.err
}

// exchange asks the servers in rounds.
func (r *Resolver) exchange(ctx context.Context, m *dns.Msg) (*dns.Msg, error) {
	var last error
	for range r.cfg.Tries {
		for _, server := range r.cfg.Servers {
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("%w: %w", errTemp, err)
			}
			resp, err := r.one(ctx, m, server)
			if err == nil {
				return resp, nil
			}
			last = fmt.Errorf("%s: %w", server, err)
		}
	}
	return nil, fmt.Errorf("%w: %w", errTemp, last)
}

// one asks one server; what is neither an answer nor "no such name" is an
// error, so that the next server is asked.
func (r *Resolver) one(ctx context.Context, m *dns.Msg, server string) (*dns.Msg, error) {
	resp, _, err := r.udp.ExchangeContext(ctx, m, server)
	if err == nil && resp.Truncated {
		resp, _, err = r.tcp.ExchangeContext(ctx, m, server)
	}
	if err != nil {
		return nil, err
	}
	switch {
	case resp.Rcode == dns.RcodeSuccess, resp.Rcode == dns.RcodeNameError:
	case resp.Rcode == dns.RcodeFormatError && m.IsEdns0() != nil:
		// RFC 6891 7: a server that doesn't know EDNS.
		plain := m.Copy()
		plain.Extra = nil
		return r.one(ctx, plain, server)
	default:
		return nil, fmt.Errorf("answered %s", dns.RcodeToString[resp.Rcode])
	}
	if len(resp.Question) != 1 || !strings.EqualFold(resp.Question[0].Name, m.Question[0].Name) {
		return nil, fmt.Errorf("answered another question")
	}
	return resp, nil
}

// read takes the records of the asked type at the end of the alias chain.
func (r *Resolver) read(resp *dns.Msg, key question) answer {
	var a answer
	name := key.name
	for range 16 { // RFC 1034 3.6.2 chains, bounded against loops
		next := ""
		for _, rr := range resp.Answer {
			if !strings.EqualFold(rr.Header().Name, name) {
				continue
			}
			if alias, ok := rr.(*dns.CNAME); ok {
				next = alias.Target
			} else if rr.Header().Rrtype == key.qtype {
				a.add(rr)
			}
		}
		if next == "" || !a.none() {
			break
		}
		name = next
	}
	if resp.Rcode == dns.RcodeNameError && a.none() {
		a.err = errNoDomain
	}
	return a
}

// add takes a record of the type that was asked for.
func (a *answer) add(rr dns.RR) {
	switch rr := rr.(type) {
	case *dns.MX:
		a.mx = append(a.mx, mx{rr.Preference, strings.TrimSuffix(rr.Mx, ".")})
	case *dns.A:
		if ip, ok := netip.AddrFromSlice(rr.A.To4()); ok {
			a.addrs = append(a.addrs, ip)
		}
	case *dns.AAAA:
		if ip, ok := netip.AddrFromSlice(rr.AAAA.To16()); ok {
			a.addrs = append(a.addrs, ip.Unmap())
		}
	case *dns.TXT:
		a.texts = append(a.texts, joined(rr.Txt))
	case *dns.PTR:
		a.names = append(a.names, strings.TrimSuffix(rr.Ptr, "."))
	}
}

// ttl is how long an answer holds: the least of its records, for a negative
// one the SOA's (RFC 2308 5), at most five minutes without any.
func (r *Resolver) ttl(resp *dns.Msg) time.Duration {
	ttl, found := uint32(300), false
	lower := func(v uint32) {
		if !found || v < ttl {
			ttl, found = v, true
		}
	}
	for _, rr := range resp.Answer {
		lower(rr.Header().Ttl)
	}
	for _, rr := range resp.Ns {
		if soa, ok := rr.(*dns.SOA); ok && !found {
			lower(min(soa.Hdr.Ttl, soa.Minttl))
		}
	}
	return min(time.Duration(ttl)*time.Second, r.cfg.MaxTTL)
}
