package directory

import (
	"fmt"

	"qstream/mail"
)

// Site is what belongs to nobody: host name, postmaster, double bounces.
type Site struct {
	Me             string // name of this system in Received lines and DSNs; empty: the host's own
	Postmaster     string // address of a person; default postmaster@Me, empty if that is
	DoubleBounceTo string // default of the queues; empty: double bounces are discarded
}

// siteName is the only name that a site document has.
const siteName = "site"

var siteKeys = []key[Site]{
	{"kind", func(_ *Site, v *value) { v.text() }},
	{"name", func(_ *Site, v *value) { v.oneOf(siteName) }},
	{"me", func(s *Site, v *value) { s.Me = parsed(v, parseDomain) }},
	{"postmaster", func(s *Site, v *value) { s.Postmaster = parsed(v, parseMailbox) }},
	{"double_bounce_to", func(s *Site, v *value) { s.DoubleBounceTo = parsed(v, parseMailbox) }},
}

// parseMailbox reads an address with a domain.
func parseMailbox(s string) (string, error) {
	a, err := mail.ParseAddress(s, true)
	if err != nil || a.Domain == "" {
		return "", fmt.Errorf("%q is no mail address", s)
	}
	if _, err := parseDomain(a.Domain); err != nil {
		return "", err
	}
	return a.String(), nil
}
