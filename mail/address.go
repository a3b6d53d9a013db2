package mail

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Longest parts of an address in octets. RFC 5321 4.5.3.1 asks for at least
// 64 in a local part; VERP and SRS make longer ones, so more is taken.
const (
	MaxLocal  = 255
	MaxDomain = 255 // RFC 5321 4.5.3.1.2
	maxLabel  = 63  // RFC 1035 2.3.4
)

// Errors that callers answer differently.
var (
	// ErrAddress is a path or address that breaks the grammar of RFC 5321
	// 4.1.2 or its lengths.
	ErrAddress = errors.New("malformed address")
	// ErrNotASCII is an address that needs SMTPUTF8 (RFC 6531) where it was
	// not asked for, or that is not UTF-8 at all.
	ErrNotASCII = errors.New("address needs SMTPUTF8")
)

// Address is a mailbox, or the null path if it is zero. Its string form is
// what records carry.
type Address struct {
	Local  string // without quotes and backslashes, case kept
	Domain string // as given, or an address literal with its brackets; empty only for the null path and for <Postmaster>
}

// IsNull reports the null path "<>".
func (a Address) IsNull() bool { return a == Address{} }

// String is the address as SMTP writes it, without angle brackets: the local
// part is quoted where it must be. The null path is "".
func (a Address) String() string {
	if a.IsNull() {
		return ""
	}
	local := quoteLocal(a.Local)
	if a.Domain == "" {
		return local
	}
	return local + "@" + a.Domain
}

// ASCII is the address in the form that servers without SMTPUTF8 take: the
// domain in A-labels. ok is false if the local part can't be written so.
func (a Address) ASCII() (ascii Address, ok bool) {
	if !isASCII(a.Local) {
		return a, false
	}
	if isASCII(a.Domain) {
		return a, true
	}
	d, err := lookupIDNA.ToASCII(a.Domain)
	if err != nil {
		return a, false
	}
	return Address{Local: a.Local, Domain: d}, true
}

// Domain is the domain of an address in string form as routes compare it:
// lower case, A-labels; an address literal in brackets. It is "" for the null
// path and for what has no domain.
func Domain(address string) string {
	i := strings.LastIndexByte(address, '@')
	if i < 0 {
		return ""
	}
	return NormalDomain(address[i+1:])
}

// NormalDomain is a domain in lower case and A-labels. What is no domain comes
// back in lower case.
func NormalDomain(domain string) string {
	if isASCII(domain) {
		return strings.ToLower(domain)
	}
	if d, err := lookupIDNA.ToASCII(domain); err == nil {
		return strings.ToLower(d)
	}
	return strings.ToLower(domain)
}

// lookupIDNA maps as UTS 46 does for looking names up; names with an
// underscore exist and are taken.
var lookupIDNA = idna.New(idna.MapForLookup(), idna.BidiRule(), idna.Transitional(false), idna.StrictDomainName(false))

// ParsePath reads the path at the start of s, the argument of MAIL FROM: or
// RCPT TO:, and returns what follows it. Source routes are dropped (RFC 5321
// appendix C), missing angle brackets are forgiven. utf8 says whether the
// transaction asked for SMTPUTF8. The null path is taken; RCPT must refuse it.
func ParsePath(s string, utf8 bool) (a Address, rest string, err error) {
	if rest, ok := strings.CutPrefix(s, "<>"); ok {
		return Address{}, rest, nil
	}
	s, bracket := strings.CutPrefix(s, "<")
	if strings.HasPrefix(s, "@") {
		route, after, ok := strings.Cut(s, ":")
		if !ok || !isSourceRoute(route) {
			return a, "", fmt.Errorf("%w: bad source route", ErrAddress)
		}
		s = after
	}
	a, rest, err = parseMailbox(s, utf8)
	if err != nil {
		return Address{}, "", err
	}
	if bracket {
		if rest, bracket = strings.CutPrefix(rest, ">"); !bracket {
			return Address{}, "", fmt.Errorf("%w: no closing bracket", ErrAddress)
		}
	}
	if rest != "" && rest[0] != ' ' {
		return Address{}, "", fmt.Errorf("%w: garbage behind the path", ErrAddress)
	}
	return a, rest, nil
}

// ParseAddress reads an address without angle brackets; utf8 says whether it
// may hold other characters than ASCII. The empty string is the null path.
func ParseAddress(s string, utf8 bool) (Address, error) {
	if s == "" {
		return Address{}, nil
	}
	a, rest, err := parseMailbox(s, utf8)
	if err != nil {
		return Address{}, err
	}
	if rest != "" {
		return Address{}, fmt.Errorf("%w: garbage behind it", ErrAddress)
	}
	return a, nil
}

func parseMailbox(s string, intl bool) (a Address, rest string, err error) {
	var local string
	if strings.HasPrefix(s, `"`) {
		local, rest, err = cutQuoted(s)
	} else {
		local, rest, err = cutAtoms(s)
	}
	if err != nil {
		return a, "", err
	}
	domain, ok := strings.CutPrefix(rest, "@")
	switch {
	case !ok && strings.EqualFold(local, "postmaster"): // RFC 5321 4.5.1
		return Address{Local: local}, rest, nil
	case !ok:
		return a, "", fmt.Errorf("%w: no domain", ErrAddress)
	}
	end := strings.IndexAny(domain, " >")
	if end < 0 {
		end = len(domain)
	}
	domain, rest = domain[:end], domain[end:]
	if err := checkCharset(local, domain, intl); err != nil {
		return a, "", err
	}
	if len(local) > MaxLocal {
		return a, "", fmt.Errorf("%w: local part too long", ErrAddress)
	}
	if err := checkDomain(domain); err != nil {
		return a, "", err
	}
	return Address{Local: local, Domain: domain}, rest, nil
}

func checkCharset(local, domain string, intl bool) error {
	if isASCII(local) && isASCII(domain) {
		return nil
	}
	if !utf8.ValidString(local) || !utf8.ValidString(domain) {
		return fmt.Errorf("%w: not UTF-8", ErrNotASCII)
	}
	if !intl {
		return ErrNotASCII
	}
	if Printable(local) != local {
		return fmt.Errorf("%w: control character", ErrAddress)
	}
	return nil
}

// cutQuoted cuts a quoted string (RFC 5321 4.1.2) and undoes its quoting.
func cutQuoted(s string) (local, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"':
			if b.Len() == 0 {
				return "", "", fmt.Errorf("%w: empty local part", ErrAddress)
			}
			return b.String(), s[i+1:], nil
		case c == '\\' && i+1 < len(s):
			i++
			c = s[i]
		}
		if c < ' ' || c == 0x7f {
			return "", "", fmt.Errorf("%w: control character", ErrAddress)
		}
		b.WriteByte(c)
	}
	return "", "", fmt.Errorf("%w: quote not closed", ErrAddress)
}

// cutAtoms cuts an unquoted local part. Dots may stand anywhere: such
// addresses exist, and String quotes them.
func cutAtoms(s string) (local, rest string, err error) {
	n := 0
	for n < len(s) && (isAtext(s[n]) || s[n] == '.') {
		n++
	}
	if n == 0 {
		return "", "", fmt.Errorf("%w: bad local part", ErrAddress)
	}
	return s[:n], s[n:], nil
}

func quoteLocal(local string) string {
	if isDotString(local) {
		return local
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(local); i++ {
		if local[i] == '"' || local[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(local[i])
	}
	b.WriteByte('"')
	return b.String()
}

func isDotString(s string) bool {
	if s == "" || s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, "..") {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !isAtext(s[i]) && s[i] != '.' {
			return false
		}
	}
	return true
}

// isAtext is RFC 5322 3.2.3, and any octet of a longer UTF-8 sequence (RFC
// 6531 3.3), which checkCharset judges.
func isAtext(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c >= 0x80:
		return true
	}
	return strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func checkDomain(d string) error {
	if strings.HasPrefix(d, "[") {
		return checkLiteral(d)
	}
	if !isASCII(d) {
		ascii, err := lookupIDNA.ToASCII(d)
		if err != nil {
			return fmt.Errorf("%w: domain: %v", ErrAddress, err)
		}
		d = ascii
	}
	if d == "" || len(d) > MaxDomain {
		return fmt.Errorf("%w: domain too long or empty", ErrAddress)
	}
	for label := range strings.SplitSeq(d, ".") {
		if !isLabel(label) {
			return fmt.Errorf("%w: bad domain", ErrAddress)
		}
	}
	return nil
}

func isLabel(l string) bool {
	if l == "" || len(l) > maxLabel || l[0] == '-' || l[len(l)-1] == '-' {
		return false
	}
	for i := 0; i < len(l); i++ {
		c := l[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return false
		}
	}
	return true
}

// checkLiteral takes the address literals of RFC 5321 4.1.3 that name a host:
// IPv4 and IPv6.
func checkLiteral(d string) error {
	inner, ok := strings.CutSuffix(d[1:], "]")
	v6 := len(inner) > 5 && strings.EqualFold(inner[:5], "IPv6:")
	if v6 {
		inner = inner[5:]
	}
	ip, err := netip.ParseAddr(inner)
	if !ok || err != nil || ip.Is6() != v6 || ip.Zone() != "" {
		return fmt.Errorf("%w: bad address literal", ErrAddress)
	}
	return nil
}

func isSourceRoute(s string) bool {
	for at := range strings.SplitSeq(s, ",") {
		d, ok := strings.CutPrefix(at, "@")
		if !ok || checkDomain(d) != nil {
			return false
		}
	}
	return true
}
