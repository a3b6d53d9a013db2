package resolver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	"golang.org/x/net/idna"

	"qstream/mail"
)

// Mail are the hosts that take mail for a domain or an address literal, best
// first: by preference, at random among equals, IPv6 and IPv4 in turns. A
// domain without MX records is its own host (implicit MX). own are names and
// addresses that are ourselves: a host among them, and all that are not
// preferred to it, are left out; if nothing is left, the error is 5.4.6.
func (r *Resolver) Mail(ctx context.Context, domain string, own []string) ([]Host, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Total)
	defer cancel()
	hosts, err := r.mail(ctx, domain, own)
	if err != nil {
		return nil, fmt.Errorf("mail hosts of %s: %w", mail.Printable(domain), err)
	}
	return hosts, nil
}

func (r *Resolver) mail(ctx context.Context, domain string, own []string) ([]Host, error) {
	if a, ok := literal(domain); ok {
		return beforeOurselves([]Host{{Name: domain, Addr: a}}, own)
	}
	name, err := idna.Lookup.ToASCII(strings.TrimSuffix(domain, "."))
	if err != nil {
		// Underscores and other odd names are not our business; DNS decides.
		name = strings.TrimSuffix(domain, ".")
	}
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return nil, errNoDomain
	}
	records, err := r.exchangers(ctx, name)
	if err != nil {
		return nil, err
	}
	// Loops by name are found before any address is asked for.
	if records, err = withoutOurselves(records, own); err != nil {
		return nil, err
	}
	hosts, err := r.locate(ctx, records)
	if err != nil {
		return nil, err
	}
	return beforeOurselves(hosts, own)
}

// exchangers are the MX records in order, or the implicit one.
func (r *Resolver) exchangers(ctx context.Context, name string) ([]mx, error) {
	ans, err := r.ask(ctx, name, dns.TypeMX)
	if err != nil {
		return nil, err
	}
	if len(ans.mx) == 0 {
		return []mx{{host: name}}, nil
	}
	usable := make([]mx, 0, len(ans.mx))
	for _, m := range ans.mx {
		if m.host != "" { // "." is the null MX
			usable = append(usable, m)
		}
	}
	if len(usable) == 0 {
		return nil, errNullMX
	}
	rand.Shuffle(len(usable), func(i, j int) { usable[i], usable[j] = usable[j], usable[i] })
	slices.SortStableFunc(usable, func(a, b mx) int { return int(a.pref) - int(b.pref) })
	return usable, nil
}

// locate finds addresses, until there are as many as anybody would try.
func (r *Resolver) locate(ctx context.Context, records []mx) ([]Host, error) {
	var hosts []Host
	var temp error
	for _, m := range records {
		if len(hosts) >= r.cfg.MaxHosts {
			break
		}
		if a, err := netip.ParseAddr(m.host); err == nil {
			// Forbidden (RFC 5321 5.1: a name), and yet often seen.
			hosts = append(hosts, Host{Name: m.host, Addr: a.Unmap(), Pref: m.pref})
			continue
		}
		addrs, err := r.addrs(ctx, m.host)
		if err != nil {
			if !permanent(err) {
				temp = err
			}
			continue
		}
		hosts = append(hosts, interleave(m.host, m.pref, addrs)...)
	}
	switch {
	case len(hosts) > 0:
		return hosts[:min(len(hosts), r.cfg.MaxHosts)], nil
	case temp != nil:
		return nil, temp
	}
	return nil, errNoHost
}

// withoutOurselves cuts the records at the first preference that one of own's
// names has (RFC 5321 5.1).
func withoutOurselves(records []mx, own []string) ([]mx, error) {
	for _, m := range records {
		if !isOwnName(m.host, own) {
			continue
		}
		better := slices.IndexFunc(records, func(o mx) bool { return o.pref >= m.pref })
		if better == 0 {
			return nil, errLoop
		}
		return records[:better], nil
	}
	return records, nil
}

// beforeOurselves does the same by address.
func beforeOurselves(hosts []Host, own []string) ([]Host, error) {
	for _, h := range hosts {
		if !isOwnAddr(h.Addr, own) {
			continue
		}
		better := slices.IndexFunc(hosts, func(o Host) bool { return o.Pref >= h.Pref })
		if better == 0 {
			return nil, errLoop
		}
		return hosts[:better], nil
	}
	return hosts, nil
}

func isOwnName(host string, own []string) bool {
	return slices.ContainsFunc(own, func(o string) bool {
		return strings.EqualFold(strings.TrimSuffix(o, "."), host)
	})
}

func isOwnAddr(addr netip.Addr, own []string) bool {
	return slices.ContainsFunc(own, func(o string) bool {
		a, ok := literal(o)
		return ok && a == addr
	})
}
