package mail

import "strings"

// Raw is the address as QMQP and QMTP carry it: without quotes.
func (a Address) Raw() string {
	if a.Domain == "" {
		return a.Local
	}
	return a.Local + "@" + a.Domain
}

// FromRaw is the string form of an address that came without quotes; what is
// no address either way stays as it is, for ParseAddress to refuse.
func FromRaw(s string) string {
	if _, err := ParseAddress(s, true); err == nil {
		return s
	}
	i := strings.LastIndexByte(s, '@')
	if i < 1 {
		return s
	}
	quoted := Address{Local: s[:i], Domain: s[i+1:]}.String()
	if _, err := ParseAddress(quoted, true); err != nil {
		return s
	}
	return quoted
}
