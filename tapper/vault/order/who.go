package order

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"qstream/mail"
)

// Rule says whose mail is meant. Every field that is given must fit one and the
// same recipient together with the message's reverse-path. Case counts nowhere,
// domains are compared as A-labels, and nothing matches in part: a "*" stands for
// any characters where it is written.
//
// Addresses are written as usual: "bob@acme.example", "bob-*@acme.example",
// "*@acme.example" (or "@acme.example"), "bob@*.acme.example" (in domains below
// it), "bob@*" (in any). Domains: "acme.example", "*.acme.example" (those below
// it, not itself; or ".acme.example").
type Rule struct {
	Sender    string `json:"sender,omitempty"`    // the reverse-path; "<>" is the null one
	Recipient string `json:"recipient,omitempty"` // one recipient
	Domain    string `json:"domain,omitempty"`    // of the reverse-path or of the recipient
	Tenant    string `json:"tenant,omitempty"`    // who submitted the message, or who owns the recipient's domain
}

// nullPath is the null reverse-path in a rule.
const nullPath = string(mail.NullPattern)

func completeRules(rules []Rule) ([]Rule, error) {
	switch {
	case len(rules) == 0:
		return nil, errors.New("who: is missing")
	case len(rules) > MaxRules:
		return nil, fmt.Errorf("who: more than %d rules; make several orders of it", MaxRules)
	}
	done := make([]Rule, len(rules))
	var faults []error
	for i, r := range rules {
		var err error
		if done[i], err = r.complete(); err != nil {
			faults = append(faults, fmt.Errorf("who, rule %d: %w", i+1, err))
		}
	}
	return done, errors.Join(faults...)
}

func (r Rule) complete() (Rule, error) {
	if r == (Rule{}) {
		return r, errors.New("says nothing; want sender, recipient, domain or tenant")
	}
	var faults []error
	if r.Sender != "" {
		p, err := parsePattern(r.Sender)
		if err != nil {
			faults = append(faults, fmt.Errorf("sender: %w", err))
		}
		r.Sender = p.String()
	}
	if r.Recipient != "" {
		p, err := parsePattern(r.Recipient)
		if err == nil && p.null {
			err = errors.New("no recipient is the null path")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("recipient: %w", err))
		}
		r.Recipient = p.String()
	}
	if r.Domain != "" {
		d, err := parseDomain(r.Domain)
		if err == nil && d == "*" {
			err = errors.New("* is everybody; name one")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("domain: %w", err))
		}
		r.Domain = d
	}
	if r.Tenant != "" && !validName(r.Tenant) {
		faults = append(faults, errors.New("tenant: want 1 to 40 of a-z, 0-9, -"))
	}
	return r, errors.Join(faults...)
}

// validName is whether s is a name as the directory has them.
func validName(s string) bool {
	if s == "" || len(s) > 40 {
		return false
	}
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// pattern is an address with stars.
type pattern struct {
	null   bool
	local  string // folded, unquoted
	domain string // normal: exact, "*.below", "*", or "" for an address without one
}

func parsePattern(s string) (pattern, error) {
	s = strings.TrimSpace(s)
	if s == nullPath {
		return pattern{null: true}, nil
	}
	if inner, ok := strings.CutPrefix(s, "<"); ok {
		s = strings.TrimSuffix(inner, ">")
	}
	if strings.HasPrefix(s, "@") {
		s = "*" + s
	}
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		if a, err := mail.ParseAddress(s, true); err == nil && !a.IsNull() { // postmaster
			return pattern{local: fold(a.Local)}, nil
		}
		return pattern{}, fmt.Errorf("%s: want an address; * stands for any characters", mail.Printable(s))
	}
	domain, err := parseDomain(s[at+1:])
	if err != nil {
		return pattern{}, err
	}
	a, err := mail.ParseAddress(s[:at]+"@x.example", true)
	if err != nil {
		return pattern{}, fmt.Errorf("%s: %w", mail.Printable(s), err)
	}
	p := pattern{local: fold(a.Local), domain: domain}
	if strings.Trim(p.local, "*") == "" {
		p.local = "*"
		if domain == "*" {
			return p, fmt.Errorf("%s is everybody; name one", mail.Printable(s))
		}
	}
	return p, nil
}

// parseDomain reads a domain, "*.domain", ".domain" or "*".
func parseDomain(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "*" {
		return s, nil
	}
	rest, below := strings.CutPrefix(s, "*.")
	if !below {
		rest, below = strings.CutPrefix(s, ".")
	}
	a, err := mail.ParseAddress("x@"+rest, true)
	switch {
	case strings.Contains(rest, "*"):
		return "", fmt.Errorf("%s: in a domain, * stands alone or as its first label", mail.Printable(s))
	case err != nil:
		return "", fmt.Errorf("%s: is no domain: %w", mail.Printable(s), err)
	case below && strings.HasPrefix(rest, "["):
		return "", fmt.Errorf("%s: nothing is below an address literal", mail.Printable(s))
	}
	d := mail.NormalDomain(a.Domain)
	if below {
		return "*." + d, nil
	}
	return d, nil
}

func (p pattern) String() string {
	switch {
	case p.null:
		return nullPath
	case p.domain == "":
		return p.local
	}
	quoted := mail.Address{Local: p.local, Domain: "x"}.String()
	return strings.TrimSuffix(quoted, "x") + p.domain
}

// address is an address of a message, as patterns are compared with it.
type address struct {
	key    string // local and domain as an index has them; "" for the null path
	local  string
	domain string
}

func addressOf(s string) address {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return address{key: fold(s), local: fold(s)}
	}
	local, domain := s[:at], mail.NormalDomain(s[at+1:])
	if strings.HasPrefix(local, `"`) {
		if a, err := mail.ParseAddress(local+"@x.example", true); err == nil {
			local = a.Local
		}
	}
	local = fold(local)
	if len(local)+1+len(domain) == len(s) && s[:at] == local && s[at+1:] == domain {
		return address{key: s, local: local, domain: domain}
	}
	return address{key: local + "@" + domain, local: local, domain: domain}
}

// key is what exact patterns are found by.
func (p pattern) key() string {
	if p.domain == "" {
		return p.local
	}
	return p.local + "@" + p.domain
}

func (p pattern) exact() bool {
	return !p.null && !strings.Contains(p.local, "*") && !strings.HasPrefix(p.domain, "*")
}

func (p pattern) matches(a address) bool {
	if p.null || a.key == "" {
		return p.null && a.key == ""
	}
	return domainMatches(p.domain, a.domain) && glob(p.local, a.local)
}

// domainMatches is whether a domain is meant by one of a rule. What has no
// domain is in none.
func domainMatches(pattern, domain string) bool {
	switch {
	case pattern == "*":
		return domain != ""
	case strings.HasPrefix(pattern, "*."):
		return len(domain) >= len(pattern) && strings.HasSuffix(domain, pattern[1:])
	}
	return domain == pattern
}

// glob is whether all of text fits; a star stands for any octets. It takes
// the product of the lengths at most.
func glob(pattern, text string) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && pattern[p] == text[t]:
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// fold brings texts that differ by case alone, as strings.EqualFold sees it, to
// one form; ASCII comes out in lower case.
func fold(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= 0x80 || c >= 'A' && c <= 'Z' {
			return strings.Map(foldRune, s)
		}
	}
	return s
}

func foldRune(r rune) rune {
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	if least >= 'A' && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}
