package mail

import (
	"fmt"
	"strings"
)

// Pattern says which addresses a person means: an address, "@domain" for all of
// a domain, "<>" for the null path; the empty one means every address. Case
// doesn't count.
type Pattern string

// NullPattern means the null path.
const NullPattern Pattern = "<>"

// ParsePattern reads what a person wrote.
func ParsePattern(s string) (Pattern, error) {
	s = strings.TrimSpace(s)
	switch {
	case s == "" || Pattern(s) == NullPattern:
		return Pattern(s), nil
	case strings.HasPrefix(s, "@"):
		return Pattern("@" + NormalDomain(s[1:])), nil
	}
	a, err := ParseAddress(strings.Trim(s, "<>"), true)
	if err != nil {
		return "", fmt.Errorf("%s: want an address, @domain or <>: %w", Printable(s), err)
	}
	return Pattern(a.String()), nil
}

// Matches reports whether an address of a record is meant.
func (p Pattern) Matches(address string) bool {
	switch {
	case p == "":
		return true
	case p == NullPattern:
		return address == ""
	case p[0] == '@':
		return Domain(address) == string(p[1:])
	}
	return strings.EqualFold(string(p), address)
}
