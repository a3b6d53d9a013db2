package gate

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"qstream/directory"
	"qstream/mail"
)

// maxText bounds what a list may say to a client.
const maxText = 200

func permanent(err error) bool {
	var s mail.Status
	return errors.As(err, &s) && s.Permanent()
}

// listed is how recipients of a client are refused, nil if they are not: by
// RBLSMTPD of its rule, or else by the lists.
func (g *Gate) listed(ctx context.Context, d directory.DNSBL, c *Client) *mail.Status {
	if text, set := c.Var(RBLSMTPD); set {
		if text == "" {
			return nil
		}
		return g.refuseListed(c, "rule", refusal(451, text))
	}
	if len(d.Block) == 0 || !c.Addr.IsValid() {
		return nil
	}
	ctx, done := g.lookup(ctx, d.Wait, "dnsbl")
	defer done()
	found := g.ask(ctx, d, c.Addr.Addr())
	weight, silent, first := 0, false, -1
	for i, a := range found {
		allow := i >= len(d.Block)
		silent = silent || a.failed
		switch {
		case !a.hit:
		case allow:
			return nil
		default:
			weight += d.Block[i].Weight
			if first < 0 {
				first = i
			}
		}
	}
	if first < 0 || weight < d.Threshold {
		return nil
	}
	code := d.Reply
	if silent { // an allow list may not have answered: nothing final is said
		code = 451
	}
	return g.refuseListed(c, d.Block[first].Zone, refusal(code, g.why(ctx, d.Block[first], c.Addr.Addr())))
}

func (g *Gate) refuseListed(c *Client, zone string, s *mail.Status) *mail.Status {
	g.metrics.listed.WithLabelValues(c.Service).Inc()
	g.deps.Log.Info("client listed", "stage", "ingest", "service", c.Service, "host", c.Addr.Addr().String(),
		"zone", zone, "code", s.Code, "line", c.Rule.Line)
	return s
}

// refusal is rblsmtpd's: 553 if the text begins with a hyphen.
func refusal(code int, text string) *mail.Status {
	if rest, ok := strings.CutPrefix(text, "-"); ok {
		code, text = 553, rest
	}
	s := &mail.Status{Code: code, Enhanced: "4.7.1", Text: mail.Printable(text[:min(len(text), maxText)])}
	if code >= 500 {
		s.Enhanced = "5.7.1"
	}
	return s
}

// answer of one list.
type answer struct{ hit, failed bool }

// ask asks all lists at once, block lists first.
func (g *Gate) ask(ctx context.Context, d directory.DNSBL, ip netip.Addr) []answer {
	lists := slices.Concat(d.Block, d.Allow)
	found := make([]answer, len(lists))
	var wg sync.WaitGroup
	for i, l := range lists {
		wg.Go(func() {
			addrs, err := g.deps.Resolver.IPv4(ctx, query(ip, l.Zone))
			if err != nil {
				found[i].failed = g.failed("dnsbl", err)
				return
			}
			found[i].hit = slices.ContainsFunc(addrs, l.Counts)
		})
	}
	wg.Wait()
	return found
}

// why is what the refusal says.
func (g *Gate) why(ctx context.Context, l directory.DNSList, ip netip.Addr) string {
	if l.Text != "" {
		return l.Text
	}
	texts, err := g.deps.Resolver.TXT(ctx, query(ip, l.Zone))
	if err != nil || len(texts) == 0 || texts[0] == "" || texts[0][0] == '-' {
		return ip.String() + " is listed by " + l.Zone
	}
	return texts[0]
}

// query is the name that a list is asked for (RFC 5782 2.1, 2.4).
func query(ip netip.Addr, zone string) string {
	const hex = "0123456789abcdef"
	var b strings.Builder
	ip = ip.Unmap()
	octets := ip.AsSlice()
	slices.Reverse(octets)
	for _, o := range octets {
		if ip.Is4() {
			b.WriteString(netip.AddrFrom4([4]byte{0, 0, 0, o}).String()[len("0.0.0."):])
			b.WriteByte('.')
			continue
		}
		b.Write([]byte{hex[o&15], '.', hex[o>>4], '.'})
	}
	return b.String() + zone
}
