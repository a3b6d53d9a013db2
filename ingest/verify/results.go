package verify

import (
	"fmt"
	"strings"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Lines are what goes before the content: Authentication-Results (RFC 8601)
// with the name id, then Received-SPF (RFC 7208 9.1), each folded and ended by
// CRLF; empty if there is nothing to tell. They have to come first: whoever
// trusts a field of this name trusts the topmost one. If the content claims
// to have been here already, that is said.
func (f Findings) Lines(id string) string {
	var parts []string
	if f.SPF != nil {
		parts = append(parts, f.SPF.result())
	}
	for _, s := range f.DKIM {
		parts = append(parts, s.result())
	}
	if f.NoDKIM {
		parts = append(parts, "dkim=none")
	}
	if f.DMARC != nil {
		parts = append(parts, f.DMARC.result())
	}
	if len(parts) == 0 && f.Forged == 0 {
		return ""
	}
	if len(parts) == 0 {
		parts = []string{"none"}
	}
	head := "Authentication-Results: " + value(id)
	if f.Forged > 0 {
		head += fmt.Sprintf("\r\n\t(%d fields below claim this name and are not ours)", f.Forged)
	}
	lines := head + ";\r\n\t" + strings.Join(parts, ";\r\n\t") + "\r\n"
	if f.SPF != nil {
		lines += f.SPF.Header()
	}
	return lines
}

func (s SPF) result() string {
	property := "smtp.mailfrom"
	if s.ByHELO {
		property = "smtp.helo"
	}
	r := "spf=" + s.Result + reason(s.Problem)
	if s.Domain != "" {
		r += " " + property + "=" + value(s.Domain)
	}
	return r
}

func (s Signature) result() string {
	r := "dkim=" + s.Result + reason(s.Reason)
	for _, p := range [][2]string{{"header.d", s.Domain}, {"header.s", s.Selector}, {"header.a", s.Algorithm}, {"header.b", s.Start}} {
		if p[1] != "" {
			r += " " + p[0] + "=" + value(p[1])
		}
	}
	return r
}

func (d *DMARC) result() string {
	r := "dmarc=" + d.Result + reason(d.Reason)
	if d.Domain != "" {
		r += " header.from=" + value(d.Domain)
	}
	if d.Policy != "" {
		r += " policy.published-domain-policy=" + d.Policy
	}
	return r
}

func reason(s string) string {
	if s == "" {
		return ""
	}
	return "\r\n\t reason=" + quoted(s)
}

// Header is the Received-SPF line.
func (s SPF) Header() string {
	word := s.Result
	identity, from := "mailfrom", s.Sender
	if s.ByHELO {
		identity = "helo"
	}
	pairs := []string{
		"client-ip=" + s.client.IP.String(),
		"envelope-from=" + quoted(from),
		"helo=" + value(s.client.HELO),
		"identity=" + identity,
	}
	if s.ByHELO {
		pairs[1] = `envelope-from="<>"`
	}
	if s.receiver != "" {
		pairs = append(pairs, "receiver="+value(s.receiver))
	}
	if s.Problem != "" {
		pairs = append(pairs, "problem="+quoted(s.Problem))
	}
	return "Received-SPF: " + word + "\r\n\t" + strings.Join(pairs, ";\r\n\t") + "\r\n"
}

// maxValue is the longest text of a value, so that lines stay below the 998
// octets of RFC 5322 2.1.1.
const maxValue = 320

// value is a token as it is, anything else quoted (RFC 2045 5.1).
func value(s string) string {
	plain := s != "" && len(s) <= maxValue && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`()<>@,;:\"/[]?=`, r)
	})
	if plain {
		return s
	}
	return quoted(s)
}

// quoted is outside text as a quoted string.
func quoted(s string) string {
	s = strings.ToValidUTF8(mail.Printable(s), "?")
	if len(s) > maxValue {
		s = strings.ToValidUTF8(s[:maxValue], "")
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// Checks are the findings as the received record keeps them.
func (f Findings) Checks() []*pb.Check {
	var out []*pb.Check
	add := func(c *pb.Check) {
		for _, s := range []*string{&c.Domain, &c.Selector, &c.Algorithm, &c.Reason} {
			*s = strings.ToValidUTF8((*s)[:min(len(*s), maxValue)], "?")
		}
		out = append(out, c)
	}
	if s := f.SPF; s != nil {
		add(&pb.Check{Method: "spf", Result: s.Result, Domain: s.Domain, Reason: s.Problem})
	}
	for _, s := range f.DKIM {
		add(&pb.Check{Method: "dkim", Result: s.Result, Domain: s.Domain, Selector: s.Selector, Algorithm: s.Algorithm, Reason: s.Reason})
	}
	if f.NoDKIM {
		add(&pb.Check{Method: "dkim", Result: None})
	}
	if d := f.DMARC; d != nil {
		add(&pb.Check{Method: "dmarc", Result: d.Result, Domain: d.Domain, Policy: d.Policy, Reason: d.Reason})
	}
	if f.Forged > 0 {
		add(&pb.Check{Method: "authentication-results", Result: Fail, Reason: fmt.Sprintf("%d fields claim to be ours", f.Forged)})
	}
	return out
}
