package greylist

import (
	"net/netip"
	"strings"

	"qstream/mail"
)

// network is the client's neighbourhood: farms of mail hosts come back from
// another address of it.
func (t Triple) network() string {
	a := t.Client.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "unknown"
	}
	return p.String()
}

// normal makes alike what is the same to a person. Numbers of a reverse-path
// and what follows "+" change from mail to mail in lists' (VERP).
func normal(t Triple) Triple {
	t.Client = t.Client.Unmap().WithZone("")
	if !t.Client.IsValid() {
		t.Client = netip.IPv6Unspecified()
	}
	local, domain := split(t.ReversePath)
	if base, _, ok := strings.Cut(local, "+"); ok && base != "" {
		local = base
	}
	t.ReversePath = join(numbers(local), domain)
	t.Recipient = join(split(t.Recipient))
	return t
}

func split(address string) (local, domain string) {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return strings.ToLower(address), ""
	}
	return strings.ToLower(address[:at]), mail.NormalDomain(address[at+1:])
}

func join(local, domain string) string {
	if domain == "" {
		return local
	}
	return local + "@" + domain
}

// numbers replaces each run of digits by one sign.
func numbers(s string) string {
	var b strings.Builder
	run := false
	for _, r := range s {
		digit := r >= '0' && r <= '9'
		if !digit {
			b.WriteRune(r)
		} else if !run {
			b.WriteByte('#')
		}
		run = digit
	}
	return b.String()
}
