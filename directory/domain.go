package directory

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"qstream/mail"
)

// localhost is the name that no mail leaves the host for (RFC 6761 6.3).
const localhost = "localhost"

// parsePattern reads what a tenant owns or a route matches: a domain, a dot
// and a suffix (its subdomains, not itself), or "*". It returns A-labels in
// lower case.
func parsePattern(s string) (string, error) {
	if s == "*" {
		return s, nil
	}
	name, suffix := strings.CutPrefix(s, ".")
	if strings.HasPrefix(name, "*.") {
		return "", fmt.Errorf("%q: subdomains are written with a leading dot: %q", s, s[1:])
	}
	domain, err := parseDomain(name)
	if err != nil {
		return "", err
	}
	if suffix {
		return "." + domain, nil
	}
	return domain, nil
}

// parseDomain reads a domain or an address literal.
func parseDomain(s string) (string, error) {
	if strings.HasPrefix(s, "[") {
		return parseLiteral(s)
	}
	if strings.ContainsRune(s, '@') {
		return "", fmt.Errorf("%q is an address, not a domain", s)
	}
	d := mail.NormalDomain(s)
	if len(d) > 253 {
		return "", fmt.Errorf("domain %q is longer than 253 octets", s)
	}
	for _, label := range strings.Split(d, ".") {
		if err := checkLabel(label); err != nil {
			return "", fmt.Errorf("domain %q: %w", s, err)
		}
	}
	return d, nil
}

// checkLabel accepts letters, digits, hyphens inside, and underscores, which
// exist in practice (RFC 1035 2.3.1, RFC 2181 11).
func checkLabel(l string) error {
	switch {
	case l == "":
		return errors.New("empty label (two dots, or one at an end)")
	case len(l) > 63:
		return errors.New("a label is longer than 63 octets")
	case l[0] == '-' || l[len(l)-1] == '-':
		return fmt.Errorf("label %q begins or ends with a hyphen", l)
	}
	for i := 0; i < len(l); i++ {
		c := l[i]
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return fmt.Errorf("label %q can't be in a domain", l)
		}
	}
	return nil
}

// parseLiteral reads an address literal (RFC 5321 4.1.3).
func parseLiteral(s string) (string, error) {
	addr, ok := literalAddr(s)
	if !ok {
		return "", fmt.Errorf("%q is no address literal", s)
	}
	if addr.Is6() {
		return "[ipv6:" + addr.String() + "]", nil
	}
	return "[" + addr.String() + "]", nil
}

func literalAddr(s string) (netip.Addr, bool) {
	inner, ok := strings.CutPrefix(s, "[")
	if !ok || !strings.HasSuffix(inner, "]") {
		return netip.Addr{}, false
	}
	inner = inner[:len(inner)-1]
	tagged := len(inner) > 5 && strings.EqualFold(inner[:5], "ipv6:")
	if tagged {
		inner = inner[5:]
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || addr.Zone() != "" || addr.Is6() != tagged {
		return netip.Addr{}, false
	}
	return addr, true
}

// isLocal reports names and literals that only this host answers to.
func isLocal(domain string) bool {
	if addr, ok := literalAddr(domain); ok {
		return addr.IsLoopback() || addr.IsUnspecified() || addr.Unmap().IsLoopback()
	}
	return domain == localhost || strings.HasSuffix(domain, "."+localhost)
}

// patterns finds what is said about a domain: exactly, by its longest suffix,
// or about every one.
type patterns[T any] map[string]T

func (p patterns[T]) find(domain string) (pattern string, found T, ok bool) {
	if found, ok = p[domain]; ok && !strings.HasPrefix(domain, ".") && domain != "*" {
		return domain, found, true
	}
	for i := strings.IndexByte(domain, '.'); i >= 0; {
		if found, ok = p[domain[i:]]; ok && i > 0 {
			return domain[i:], found, true
		}
		next := strings.IndexByte(domain[i+1:], '.')
		if next < 0 {
			break
		}
		i += 1 + next
	}
	found, ok = p["*"]
	return "*", found, ok
}
