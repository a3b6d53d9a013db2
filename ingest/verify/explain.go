package verify

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"qstream/mail"
)

// maxExplain is the longest explanation; it has to fit into a reply.
const maxExplain = 400

// explain is what a client that failed is told: what the domain whose policy
// it was gives for it (RFC 7208 6.2), else what the site says.
func (c *Checker) explain(ctx context.Context, s SPF, rules SPFRules) string {
	m := macros{spf: s, domain: s.Domain, now: strconv.FormatInt(c.cfg.Now().Unix(), 10)}
	if text := c.published(ctx, &m); text != "" {
		return s.name() + " explains: " + text
	}
	m.domain = s.Domain
	text := rules.Explain
	if text == "" {
		text = DefaultExplain
	}
	said, ok := m.expand(text)
	if !ok || said == "" {
		said, _ = m.expand(DefaultExplain)
	}
	return cut(said)
}

// published is the explanation of the domain that decided. The one that
// "redirect" leads to decides where the terms before it don't.
func (c *Checker) published(ctx context.Context, m *macros) string {
	for range 10 {
		record := c.record(ctx, m.domain)
		exp, redirect, rest := modifiers(record)
		if redirect != "" {
			own := map[string]string{m.domain: rest}
			at := m.spf
			at.Domain = m.domain
			if result, _ := c.checkHostAt(ctx, at, own); result != Fail {
				next, ok := m.expand(redirect)
				if !ok || !fullName(next) {
					return ""
				}
				m.domain = mail.NormalDomain(next)
				continue
			}
		}
		target, ok := m.expand(exp)
		if exp == "" || !ok || !fullName(target) {
			return ""
		}
		texts, err := c.texts(ctx, target)
		if err != nil || len(texts) != 1 || !ascii(texts[0]) {
			return ""
		}
		said, ok := m.expand(texts[0])
		if !ok {
			return ""
		}
		return cut(said)
	}
	return ""
}

// checkHostAt is checkHost with another domain's policy for the same sender.
func (c *Checker) checkHostAt(ctx context.Context, s SPF, instead map[string]string) (string, error) {
	record := instead[s.Domain]
	_, own, _ := strings.Cut(s.Sender, "@")
	// The library starts at the sender's domain: lead it from there.
	if own != s.Domain {
		instead[own] = "v=spf1 redirect=" + s.Domain
		instead[s.Domain] = record
	}
	return c.checkHost(ctx, s, instead)
}

// record is a domain's SPF record, empty if there is none or no telling.
func (c *Checker) record(ctx context.Context, domain string) string {
	texts, err := c.texts(ctx, domain)
	if err != nil {
		return ""
	}
	for _, t := range texts {
		if lower := strings.ToLower(t); lower == "v=spf1" || strings.HasPrefix(lower, "v=spf1 ") {
			return t
		}
	}
	return ""
}

// modifiers takes a record's exp and redirect apart from the rest of it.
func modifiers(record string) (exp, redirect, rest string) {
	var kept []string
	for _, term := range strings.Fields(record) {
		name, value, _ := strings.Cut(term, "=")
		switch strings.ToLower(name) {
		case "exp":
			exp = value
		case "redirect":
			redirect = value
		default:
			kept = append(kept, term)
		}
	}
	return exp, redirect, strings.Join(kept, " ")
}

// macros are what RFC 7208 7.2 replaces in an explanation.
type macros struct {
	spf    SPF
	domain string
	now    string
}

// expand replaces the macros of a text; false: it is not well formed.
func (m *macros) expand(text string) (string, bool) {
	var b strings.Builder
	for text != "" && b.Len() < 4*maxExplain {
		before, after, found := strings.Cut(text, "%")
		b.WriteString(before)
		if !found {
			break
		}
		if after == "" {
			return "", false
		}
		text = after[1:]
		switch after[0] {
		case '%':
			b.WriteByte('%')
		case '_':
			b.WriteByte(' ')
		case '-':
			b.WriteString("%20")
		case '{':
			body, rest, closed := strings.Cut(text, "}")
			value, ok := m.value(body)
			if !closed || !ok {
				return "", false
			}
			b.WriteString(value)
			text = rest
		default:
			return "", false
		}
	}
	return b.String(), true
}

// value is that of one macro: a letter, digits, "r", delimiters.
func (m *macros) value(body string) (string, bool) {
	if body == "" {
		return "", false
	}
	letter, rest := body[0], body[1:]
	raw, ok := m.letter(letter | 0x20)
	if !ok {
		return "", false
	}
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	keep := 0
	if digits > 0 {
		n, err := strconv.Atoi(rest[:digits])
		if err != nil || n == 0 {
			return "", false
		}
		keep, rest = n, rest[digits:]
	}
	reverse := rest != "" && rest[0]|0x20 == 'r'
	if reverse {
		rest = rest[1:]
	}
	if strings.Trim(rest, ".-+,/_=") != "" {
		return "", false
	}
	if rest == "" {
		rest = "."
	}
	parts := strings.FieldsFunc(raw, func(r rune) bool { return strings.ContainsRune(rest, r) })
	if reverse {
		slices.Reverse(parts)
	}
	if keep > 0 && keep < len(parts) {
		parts = parts[len(parts)-keep:]
	}
	joined := strings.Join(parts, ".")
	if keep == 0 && !reverse && rest == "." {
		joined = raw
	}
	if letter < 'a' {
		joined = url.QueryEscape(joined)
	}
	return joined, true
}

func (m *macros) letter(l byte) (string, bool) {
	local, domain, _ := strings.Cut(m.spf.Sender, "@")
	ip := m.spf.client.IP
	switch l {
	case 's':
		return m.spf.Sender, true
	case 'l':
		return local, true
	case 'o':
		return domain, true
	case 'd':
		return m.domain, true
	case 'i':
		return dotted(ip), true
	case 'p':
		return "unknown", true // RFC 7208 7.3: better not asked for
	case 'v':
		if ip.Is4() {
			return "in-addr", true
		}
		return "ip6", true
	case 'h':
		return m.spf.client.HELO, true
	case 'c':
		return ip.String(), true
	case 'r':
		if m.spf.receiver == "" {
			return "unknown", true
		}
		return m.spf.receiver, true
	case 't':
		return m.now, true
	}
	return "", false
}

// dotted is an address as macro "i" has it: IPv6 by nibbles.
func dotted(ip netip.Addr) string {
	if ip.Is4() {
		return ip.String()
	}
	const hex = "0123456789abcdef"
	var parts []string
	for _, b := range ip.AsSlice() {
		parts = append(parts, hex[b>>4:b>>4+1], hex[b&15:b&15+1])
	}
	return strings.Join(parts, ".")
}

func ascii(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= 0x7f })
}

// cut makes a text fit for a reply.
func cut(s string) string {
	s = strings.ToValidUTF8(mail.Printable(s), "?")
	if len(s) > maxExplain {
		s = strings.ToValidUTF8(s[:maxExplain], "")
	}
	return s
}
