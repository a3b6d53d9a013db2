package directory

import (
	"errors"
	"fmt"
	"net"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"qstream/mail"
	"qstream/qmail"
)

// Classes of clients that a policy is for (split horizon).
const (
	Strangers  = "strangers" // that may not relay
	Relays     = "relays"    // that may
	AllClients = "all"
)

// Policy is what the edge asks of mail for some domains from a class of
// clients. Exactly one policy holds for a recipient.
type Policy struct {
	Name    string
	Domains []string // of recipients: exact, ".suffix" or "*"; default "*"
	Clients string   // Strangers (default), Relays or AllClients
	Tenant  string   // with Relays: only clients that submit for this tenant; empty: all

	BadMailFrom    Source
	BadRcptTo      Source
	BadHELO        Source
	MailFromRules  Source
	BadMIMETypes   Source
	BadLoaderTypes Source
	Recipients     *RecipientCheck // nil: every mailbox exists
	Variables      qmail.Variables
	Verify         *Verification // instead of the tenant's; nil: the tenant's
}

// Source is a text that the document holds, or that a file on the edge's host
// holds; the zero Source is none.
type Source struct {
	Text string
	File string // an absolute path
}

// Given reports whether there is a source.
func (s Source) Given() bool { return s != Source{} }

// What follows if a recipient check gets no answer.
const (
	FaultDefer  = "defer"  // 451, the recipient may be tried again
	FaultClose  = "close"  // 421, the session ends
	FaultAccept = "accept" // the recipient is taken
)

// RecipientCheck is how the edge finds out whether a mailbox exists. All
// methods given are asked, in this order; the first yes counts, and without
// one the mailbox doesn't exist.
type RecipientCheck struct {
	List    []string // addresses in lower case
	CDB     string   // path of a cdb as qmail-recipients writes it
	Rules   Source   // qmail's recipients file
	Home    string   // where relative paths of Rules begin; default /var/qmail
	Program []string // and its arguments, asked as qmail asks a PAM
	Callout string   // host:port that is asked by SMTP

	Timeout     time.Duration // for a program or callout; default 10 s
	Concurrency int           // programs or callouts of this policy at once, on each edge; default 20
	AcceptFor   time.Duration // how long a callout's yes holds; default 1 h
	RejectFor   time.Duration // how long its no holds; default 5 min
	OnFault     string        // default FaultDefer
}

const (
	maxPolicyList = 100_000
	maxArgs       = 6 // a program and five arguments
)

func newRecipientCheck() *RecipientCheck {
	return &RecipientCheck{
		Home: "/var/qmail", Timeout: 10 * time.Second, Concurrency: 20,
		AcceptFor: time.Hour, RejectFor: 5 * time.Minute, OnFault: FaultDefer,
	}
}

var policyKeys = []key[Policy]{
	{"kind", func(_ *Policy, v *value) { v.text() }},
	{"name", func(p *Policy, v *value) { p.Name = parsed(v, parseName) }},
	{"match", func(p *Policy, v *value) { nested(v, p, policyMatchKeys) }},
	{"bad_mail_from", func(p *Policy, v *value) { p.BadMailFrom = sourceOf(v, qmail.ParseList) }},
	{"bad_rcpt_to", func(p *Policy, v *value) { p.BadRcptTo = sourceOf(v, qmail.ParseList) }},
	{"bad_helo", func(p *Policy, v *value) { p.BadHELO = sourceOf(v, qmail.ParseList) }},
	{"mail_from_rules", func(p *Policy, v *value) { p.MailFromRules = sourceOf(v, qmail.ParseSenderRules) }},
	{"bad_mime_types", func(p *Policy, v *value) { p.BadMIMETypes = sourceOf(v, qmail.ParseMIMETypes) }},
	{"bad_loader_types", func(p *Policy, v *value) { p.BadLoaderTypes = sourceOf(v, qmail.ParseLoaderTypes) }},
	{"recipients", func(p *Policy, v *value) {
		p.Recipients = newRecipientCheck()
		nested(v, p.Recipients, recipientKeys)
		p.Recipients.complete(v)
	}},
	{"variables", func(p *Policy, v *value) { p.setVariables(v) }},
	{"verify", func(p *Policy, v *value) { p.Verify = &Verification{}; nested(v, p.Verify, verificationKeys) }},
}

var policyMatchKeys = []key[Policy]{
	{"domains", func(p *Policy, v *value) {
		v.list(maxDomains, func(e *value) { p.Domains = append(p.Domains, parsed(e, parsePattern)) })
	}},
	{"clients", func(p *Policy, v *value) { p.Clients = v.oneOf(Strangers, Relays, AllClients) }},
	{"tenant", func(p *Policy, v *value) { p.Tenant = parsed(v, parseName) }},
}

var recipientKeys = []key[RecipientCheck]{
	{"list", func(r *RecipientCheck, v *value) {
		v.list(maxPolicyList, func(e *value) { r.List = append(r.List, strings.ToLower(parsed(e, parseMailbox))) })
	}},
	{"cdb", func(r *RecipientCheck, v *value) { r.CDB = parsed(v, parsePath) }},
	{"rules", func(r *RecipientCheck, v *value) { r.Rules = sourceOf(v, qmail.ParseRecipients) }},
	{"home", func(r *RecipientCheck, v *value) { r.Home = parsed(v, parsePath) }},
	{"program", func(r *RecipientCheck, v *value) {
		v.list(maxArgs, func(e *value) { r.Program = append(r.Program, e.text()) })
		if len(r.Program) > 0 && !path.IsAbs(r.Program[0]) {
			v.fail("%q is no absolute path", r.Program[0])
		}
	}},
	{"callout", func(r *RecipientCheck, v *value) { r.Callout = parsed(v, parseCallout) }},
	{"timeout", func(r *RecipientCheck, v *value) { r.Timeout = v.duration(time.Second, time.Minute) }},
	{"concurrency", func(r *RecipientCheck, v *value) { r.Concurrency = int(v.integer(1, 1000)) }},
	{"accept_for", func(r *RecipientCheck, v *value) { r.AcceptFor = v.duration(0, 31*day) }},
	{"reject_for", func(r *RecipientCheck, v *value) { r.RejectFor = v.duration(0, day) }},
	{"on_fault", func(r *RecipientCheck, v *value) { r.OnFault = v.oneOf(FaultDefer, FaultClose, FaultAccept) }},
}

const day = 24 * time.Hour

func (r *RecipientCheck) complete(v *value) {
	if len(r.List) == 0 && r.CDB == "" && !r.Rules.Given() && len(r.Program) == 0 && r.Callout == "" {
		v.fail("names no list, cdb, rules, program or callout: every recipient would be refused")
	}
	slices.Sort(r.List)
}

// Lists reports whether the inline list holds an address, or the one without
// its extension.
func (r *RecipientCheck) Lists(address string) bool {
	address = strings.ToLower(address)
	if _, ok := slices.BinarySearch(r.List, address); ok {
		return true
	}
	base, ok := qmail.Extension(address)
	if ok {
		_, ok = slices.BinarySearch(r.List, base)
	}
	return ok
}

// sourceOf reads a text, a list of lines, or {file: PATH}. Text is checked by
// parse.
func sourceOf[T any](v *value, parse func(string) (T, error)) (s Source) {
	if _, ok := mapping(v.node); ok {
		nested(v, &s, sourceKeys)
		if s.File == "" {
			v.fail("wants a text, a list of lines, or {file: PATH}")
		}
		return s
	}
	if _, ok := v.node.(*ast.SequenceNode); ok {
		var lines []string
		v.list(maxPolicyList, func(e *value) { lines = append(lines, e.text()) })
		s.Text = strings.Join(lines, "\n")
	} else {
		s.Text = scalar(v.node)
		v.canon = s.Text
	}
	if _, err := parse(s.Text); err != nil {
		v.fail("%s", err)
	}
	if strings.TrimSpace(s.Text) == "" {
		v.fail("is empty")
	}
	return s
}

var sourceKeys = []key[Source]{
	{"file", func(s *Source, v *value) { s.File = parsed(v, parsePath) }},
}

func parsePath(s string) (string, error) {
	if !path.IsAbs(s) || mail.Printable(s) != s {
		return "", fmt.Errorf("%q is no absolute path", s)
	}
	return path.Clean(s), nil
}

// parseCallout reads host, host:port or an address, the port is 25 by default.
func parseCallout(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = strings.Trim(s, "[]"), "25"
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("port %q is not in 1 to 65535", port)
	}
	host, err = parseHost(host)
	if err == nil && host == HostMX {
		err = errors.New("a callout asks one host; mx names many")
	}
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}

// setVariables reads qmail-smtpd's variables, each a text.
func (p *Policy) setVariables(v *value) {
	given := map[string]string{}
	var keys []key[map[string]string]
	for _, name := range qmail.VariableNames() {
		keys = append(keys, key[map[string]string]{name, func(m *map[string]string, v *value) {
			text := scalar(v.node)
			if mail.Printable(text) != text {
				v.fail("holds control characters")
			}
			(*m)[name], v.canon = text, text
		}})
	}
	nested(v, &given, keys)
	if err := p.Variables.Set(given); err != nil {
		v.fail("%s", err)
	}
}

// completePolicy checks what belongs together.
func (r *reading) completePolicy(p *Policy, body ast.Node) {
	if p.Clients == "" {
		p.Clients = Strangers
	}
	if len(p.Domains) == 0 {
		p.Domains = []string{"*"}
	}
	if p.Tenant != "" && p.Clients != Relays {
		r.fail(body, "match.tenant is for clients: relays; strangers' mail belongs to who owns the recipient's domain")
	}
	if p.Clients == Relays && (p.BadHELO.Given() || p.Recipients != nil || p.Verify != nil || p.Variables.SenderDNS == qmail.On || p.Variables.HELO != qmail.HELOUnset || p.Variables.TarpitCount > 0) {
		r.fail(body, "bad_helo, recipients, verify, HELOCHECK, MFDNSCHECK and TARPITCOUNT are asked of strangers only")
	}
	if p.Clients == Strangers && (p.MailFromRules.Given() || p.Variables.LocalSender != "") {
		r.fail(body, "mail_from_rules and LOCALMFCHECK are asked of relays only")
	}
}

// policies finds the policy of a recipient.
type policies struct {
	names     bool // a policy may ask for clients' reverse names
	strangers patterns[*Policy]
	relays    map[string]patterns[*Policy] // by tenant; "" is any
}

func (c *checker) addPolicy(d *Document, p *Policy) {
	c.policies.names = c.policies.names || p.asksName()
	for i, domain := range p.Domains {
		if p.Clients != Relays && c.claim(d, element("match.domains", i), "policy for strangers to "+domain) {
			c.policies.strangers[domain] = p
		}
		if p.Clients == Strangers {
			continue
		}
		what := "policy for relays to " + domain
		if p.Tenant != "" {
			what = "policy for relays of tenant " + p.Tenant + " to " + domain
		}
		if c.claim(d, element("match.domains", i), what) {
			if c.policies.relays[p.Tenant] == nil {
				c.policies.relays[p.Tenant] = patterns[*Policy]{}
			}
			c.policies.relays[p.Tenant][domain] = p
		}
	}
}

// asksName reports whether a policy may ask for a client's reverse name; of
// files nobody knows here.
func (p *Policy) asksName() bool {
	if p.Variables.HELO == qmail.HELOEqual || p.MailFromRules.File != "" || strings.Contains(p.MailFromRules.Text, "=") {
		return true
	}
	for _, s := range []Source{p.BadMailFrom, p.BadRcptTo} {
		if s.File != "" {
			return true
		}
		for line := range strings.Lines(s.Text) {
			line = strings.TrimSpace(line)
			if strings.HasSuffix(line, "-") || strings.HasSuffix(line, "=") || strings.HasPrefix(line, "~") {
				return true
			}
		}
	}
	return false
}

// AsksNames reports whether any policy may ask for clients' reverse names.
func (s *Snapshot) AsksNames() bool { return s.policies.names }

// Policy is what holds for recipients of a domain: from strangers, or from
// clients that may relay and submit for a tenant. The most special domain
// wins; policies of the tenant come before those of all. nil: nothing is asked.
func (s *Snapshot) Policy(relay bool, tenant, domain string) *Policy {
	if len(s.policies.strangers) == 0 && len(s.policies.relays) == 0 {
		return nil
	}
	domain = mail.NormalDomain(s.here(domain))
	if !relay {
		_, p, _ := s.policies.strangers.find(domain)
		return p
	}
	if p, ok := s.policies.ofTenant(tenant, domain); ok && tenant != "" {
		return p
	}
	p, _ := s.policies.ofTenant("", domain)
	return p
}

func (p policies) ofTenant(tenant, domain string) (*Policy, bool) {
	_, found, ok := p.relays[tenant].find(domain)
	return found, ok
}
