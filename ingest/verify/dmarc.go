package verify

import (
	"errors"
	"net"
	"strings"

	"github.com/emersion/go-msgauth/dmarc"

	"qstream/mail"
)

// DMARC is what the author's domain says about a message that is, or isn't,
// vouched for by SPF or DKIM.
type DMARC struct {
	Result string // None: no policy is published
	Domain string // of the author, from From
	Policy string // what is asked for if Result is Fail, subdomains and sampling included: "none", "quarantine", "reject"
	Reason string
}

// evaluate takes the authors one by one; the strictest counts (RFC 7489 6.6.1).
func (m *Message) evaluate(spf *SPF, signatures []Signature) *DMARC {
	if len(m.fields.authors) == 0 {
		return &DMARC{Result: PermError, Reason: m.fields.badFrom}
	}
	var worst *DMARC
	for _, author := range m.fields.authors {
		d := m.author(author, spf, signatures)
		if worst == nil || severity(d) > severity(worst) {
			worst = d
		}
	}
	if worst.Reason == "" {
		worst.Reason = m.fields.badFrom
	}
	return worst
}

func severity(d *DMARC) int {
	switch d.Result {
	case Pass:
		return 0
	case None:
		return 1
	case PermError:
		return 2
	case TempError:
		return 3
	}
	return map[string]int{"none": 4, "quarantine": 5, "reject": 6}[d.Policy]
}

func (m *Message) author(author string, spf *SPF, signatures []Signature) *DMARC {
	d := &DMARC{Domain: author}
	record, where, err := m.policy(author)
	if err != nil {
		d.Reason = mail.Printable(strings.TrimPrefix(err.Error(), "dmarc: "))
		d.Result = PermError
		if temporary(err) {
			d.Result = TempError
		}
		return d
	}
	if record == nil {
		d.Result = None
		return d
	}
	unsure := false
	for _, s := range signatures {
		aligned := alike(mail.NormalDomain(s.Domain), author, record.DKIMAlignment)
		if aligned && s.Result == Pass {
			d.Result = Pass
			return d
		}
		unsure = unsure || aligned && s.Result == TempError
	}
	if spf != nil && alike(spf.Domain, author, record.SPFAlignment) {
		if spf.Result == Pass && !spf.Local {
			d.Result = Pass
			return d
		}
		unsure = unsure || spf.Result == TempError
	}
	if unsure { // RFC 7489 6.6.2: what DNS hides may be a pass
		d.Result, d.Reason = TempError, "SPF or DKIM could not be looked up"
		return d
	}
	d.Result, d.Reason = Fail, "neither SPF nor DKIM passed for the author's domain"
	d.Policy = m.c.wish(record, where != author)
	return d
}

// alike reports alignment (RFC 7489 3.1).
func alike(domain, author string, mode dmarc.AlignmentMode) bool {
	if domain == "" {
		return false
	}
	return domain == author || mode != dmarc.AlignmentStrict && organization(domain) == organization(author)
}

// wish is what a record wants done with a message that fails. Who is spared
// by pct gets the next milder (RFC 7489 6.6.4).
func (c *Checker) wish(r *dmarc.Record, inherited bool) string {
	policy := string(r.Policy)
	if inherited && r.SubdomainPolicy != "" {
		policy = string(r.SubdomainPolicy)
	}
	if r.Percent != nil && c.cfg.Percent() >= *r.Percent {
		policy = map[string]string{"reject": "quarantine", "quarantine": "none"}[policy]
	}
	if policy == "" {
		policy = "none"
	}
	return policy
}

// policy is the record of the author's domain, or of its organization, and
// which; nil if there is none (RFC 7489 6.6.3).
func (m *Message) policy(author string) (*dmarc.Record, string, error) {
	for _, domain := range []string{author, organization(author)} {
		texts, err := m.asked.get("_dmarc." + domain)
		if err != nil {
			if temporary(err) {
				return nil, "", err
			}
			continue
		}
		var found []string
		for _, t := range texts {
			tag, _, _ := strings.Cut(t, ";")
			if strings.ReplaceAll(strings.TrimSpace(tag), " ", "") == "v=DMARC1" {
				found = append(found, t)
			}
		}
		if len(found) != 1 { // several count as none
			continue
		}
		r, err := dmarc.Parse(found[0])
		return r, domain, err
	}
	return nil, "", nil
}

func temporary(err error) bool {
	var d *net.DNSError
	return errors.As(err, &d) && d.IsTemporary
}

// Refusal is what the client hears at the end of its message if the site does
// as authors' domains ask. Quarantine is only written down.
func (f Findings) Refusal() (mail.Status, bool) {
	if f.DMARC == nil || f.DMARC.Result != Fail || f.DMARC.Policy != "reject" {
		return mail.Status{}, false
	}
	return mail.Status{Code: 550, Enhanced: "5.7.1", Text: "refused as the DMARC policy of " + mail.Printable(f.DMARC.Domain) + " asks"}, true
}
