package directory

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"qstream/qmail"
)

// Services of the edge, which rules documents are named after.
const (
	ServiceSMTP        = "smtp"
	ServiceSubmission  = "submission"
	ServiceSubmissions = "submissions"
	ServiceQMQP        = "qmqp"
	ServiceQMTP        = "qmtp"
	ServiceQMTPS       = "qmtps"
	ServiceHTTP        = "http"
)

// Services are all there are.
var Services = []string{
	ServiceSMTP, ServiceSubmission, ServiceSubmissions, ServiceQMQP, ServiceQMTP, ServiceQMTPS, ServiceHTTP,
}

// Rules are what happens to a connection of one service before its session
// begins.
type Rules struct {
	Service string
	Rules   *qmail.Rules      // never nil; empty: everybody is allowed
	Env     map[string]string // variables that a connection has before its rule
	Reply   bool              // a denied client is told; default: closed at once, as tcpserver does
	Proxy   []netip.Prefix    // balancers, whose connections begin with a PROXY header
	XClient []netip.Prefix    // clients that may say on whose behalf they come (XCLIENT)
	Limits  ConnLimits
	Greet   Greet
	DNSBL   DNSBL
	Scan    SessionScan // of mail within its session, where a rule says nothing else
}

// ConnLimits bound connections. A limit of 0 is none.
type ConnLimits struct {
	Connections int // open at once, in each process
	PerAddress  int
	PerNetwork  int
	Rate        ConnRate // of new ones
	AddressRate ConnRate
	NetworkRate ConnRate
	IPv4Bits    int // of a network; default 24
	IPv6Bits    int // default 64
}

// ConnRate is Count connections in Per; the zero value is no limit.
type ConnRate struct {
	Count int
	Per   time.Duration
}

// Greet is how a client is made to wait for the greeting. It must not speak
// before (RFC 5321 4.3.1).
type Greet struct {
	Delay time.Duration // 0: none
	Early int           // reply to a client that does: 554 (default) or 421
}

// DNSBL are lists in the DNS that are asked about clients (RFC 5782).
type DNSBL struct {
	Threshold int // sum of the weights from which a client is refused; default 1
	Reply     int // 451 (default) or 553
	Wait      time.Duration
	Block     []DNSList
	Allow     []DNSList // a client on one of these is not refused
}

// DNSList is one list.
type DNSList struct {
	Zone    string
	Answers []netip.Prefix // that count; default 127.0.0.0/8 without 127.255.255.0/24, which tell of errors
	Weight  int            // default 1
	Text    string         // of the refusal; default: the list's own
}

func newRules() *Rules {
	empty, _ := qmail.ParseRules("") // an empty text has no faults
	return &Rules{
		Rules:  empty,
		Limits: ConnLimits{IPv4Bits: 24, IPv6Bits: 64},
		Greet:  Greet{Early: 554},
		DNSBL:  DNSBL{Threshold: 1, Reply: 451, Wait: 5 * time.Second},
		Scan:   newSessionScan(),
	}
}

const (
	maxBalancers = 1000
	maxEnv       = 100
	maxLists     = 32
)

var rulesKeys = []key[Rules]{
	{"kind", func(_ *Rules, v *value) { v.text() }},
	{"name", func(r *Rules, v *value) { r.Service = v.oneOf(Services...) }},
	{"env", func(r *Rules, v *value) {
		r.Env = map[string]string{}
		v.list(maxEnv, func(e *value) { parsed(e, r.variable) })
	}},
	{"deny", func(r *Rules, v *value) { r.Reply = v.oneOf("close", "reply") == "reply" }},
	{"proxy", func(r *Rules, v *value) {
		v.list(maxBalancers, func(e *value) { r.Proxy = append(r.Proxy, parsed(e, parseNetwork)) })
	}},
	{"xclient", func(r *Rules, v *value) {
		v.list(maxBalancers, func(e *value) { r.XClient = append(r.XClient, parsed(e, parseNetwork)) })
	}},
	{"limits", func(r *Rules, v *value) { nested(v, &r.Limits, limitKeys) }},
	{"greet", func(r *Rules, v *value) { nested(v, &r.Greet, greetKeys) }},
	{"dnsbl", func(r *Rules, v *value) { nested(v, &r.DNSBL, dnsblKeys) }},
	{"scan", func(r *Rules, v *value) { nested(v, &r.Scan, sessionScanKeys) }},
	{"rules", func(r *Rules, v *value) { readRules(r, v) }},
}

var limitKeys = []key[ConnLimits]{
	{"connections", func(l *ConnLimits, v *value) { l.Connections = int(v.integer(0, 1e6)) }},
	{"per_address", func(l *ConnLimits, v *value) { l.PerAddress = int(v.integer(0, 1e6)) }},
	{"per_network", func(l *ConnLimits, v *value) { l.PerNetwork = int(v.integer(0, 1e6)) }},
	{"rate", func(l *ConnLimits, v *value) { l.Rate = parsed(v, parseConnRate) }},
	{"address_rate", func(l *ConnLimits, v *value) { l.AddressRate = parsed(v, parseConnRate) }},
	{"network_rate", func(l *ConnLimits, v *value) { l.NetworkRate = parsed(v, parseConnRate) }},
	{"network_ipv4", func(l *ConnLimits, v *value) { l.IPv4Bits = int(v.integer(8, 32)) }},
	{"network_ipv6", func(l *ConnLimits, v *value) { l.IPv6Bits = int(v.integer(16, 128)) }},
}

var greetKeys = []key[Greet]{
	{"delay", func(g *Greet, v *value) { g.Delay = v.duration(0, time.Minute) }},
	{"early", func(g *Greet, v *value) { g.Early, _ = strconv.Atoi(v.oneOf("554", "421")) }},
}

var dnsblKeys = []key[DNSBL]{
	{"threshold", func(d *DNSBL, v *value) { d.Threshold = int(v.integer(1, 1000)) }},
	{"reply", func(d *DNSBL, v *value) { d.Reply, _ = strconv.Atoi(v.oneOf("451", "553")) }},
	{"wait", func(d *DNSBL, v *value) { d.Wait = v.duration(time.Second, 30*time.Second) }},
	{"block", func(d *DNSBL, v *value) { v.list(maxLists, func(e *value) { d.Block = append(d.Block, readList(e)) }) }},
	{"allow", func(d *DNSBL, v *value) { v.list(maxLists, func(e *value) { d.Allow = append(d.Allow, readList(e)) }) }},
}

var listKeys = []key[DNSList]{
	{"zone", func(l *DNSList, v *value) { l.Zone = parsed(v, parseZone) }},
	{"answers", func(l *DNSList, v *value) {
		v.list(64, func(e *value) { l.Answers = append(l.Answers, parsed(e, parseAnswer)) })
	}},
	{"weight", func(l *DNSList, v *value) { l.Weight = int(v.integer(1, 1000)) }},
	{"text", func(l *DNSList, v *value) { l.Text = v.text() }},
}

func readList(v *value) DNSList {
	l := DNSList{Weight: 1}
	if zone := scalar(v.node); zone != "" {
		l.Zone = parsed(v, parseZone)
		return l
	}
	nested(v, &l, listKeys)
	if l.Zone == "" {
		v.fail("wants a zone")
	}
	return l
}

func parseZone(s string) (string, error) {
	d, err := parseDomain(s)
	if err == nil && (d == localhost || !strings.Contains(d, ".")) {
		err = fmt.Errorf("%q is no zone of a list", s)
	}
	return d, err
}

func parseAnswer(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if a, e := netip.ParseAddr(s); e == nil {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	if err != nil || !p.Addr().Is4() || p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("%q is no answer of a list: write 127.0.0.2 or 127.0.0.0/24", s)
	}
	return p, nil
}

func (r *Rules) variable(s string) (struct{}, error) {
	name, value, err := qmail.ParseVariable(s)
	if err == nil && name == relayClient {
		err = errors.New(relayClient + " for everybody would make an open relay; set it by rules")
	}
	if err == nil {
		err = checkVariable(name, value)
	}
	r.Env[name] = value
	return struct{}{}, err
}

// checkVariable refuses what the edge would not understand.
func checkVariable(name, value string) error {
	switch name {
	case "DATABYTES", "MAXRECIPIENTS", "GREETDELAY":
		if _, err := strconv.ParseUint(value, 10, 62); err != nil {
			return fmt.Errorf("%s wants a number, not %q", name, value)
		}
	case "SPF":
		if n, err := strconv.Atoi(value); err != nil || n < 0 || n > maxSPFLevel {
			return fmt.Errorf("SPF wants a level from 0 to %d, not %q", maxSPFLevel, value)
		}
	case "POSTGREY":
		_, err := ParsePolicyServer(value)
		return err
	case "SMTPAUTH":
		_, err := qmail.ParseSMTPAuth(value)
		return err
	case "UCSPITLS":
		_, err := qmail.ParseUCSPITLS(value)
		return err
	}
	if err := checkSessionVariable(name, value); err != nil {
		return err
	}
	var v qmail.Variables
	return v.Set(map[string]string{name: value})
}

// parseConnRate reads "30/1m".
func parseConnRate(s string) (ConnRate, error) {
	count, per, ok := strings.Cut(s, "/")
	n, err := strconv.Atoi(count)
	d, err2 := ParseDuration(per)
	if !ok || err != nil || err2 != nil || n < 1 || n > 1e6 || d < time.Second || d > 24*time.Hour {
		return ConnRate{}, fmt.Errorf("%q is no rate: write 30/1m for thirty in a minute", s)
	}
	return ConnRate{n, d}, nil
}

const relayClient = "RELAYCLIENT"

// readRules reads the text that tcprules takes. Faults are at their lines.
func readRules(r *Rules, v *value) {
	text := scalar(v.node)
	first := 0 // lines between the key and the text
	if _, ok := v.node.(*ast.LiteralNode); ok {
		first = 1
	}
	rules, err := qmail.ParseRules(text)
	var faults qmail.LineErrors
	if errors.As(err, &faults) {
		for _, f := range faults {
			v.at(f.Line-1+first, f.Reason)
		}
		return
	}
	for _, rule := range rules.All() {
		for name, value := range rule.Env {
			if err := checkVariable(name, value); err != nil {
				v.at(rule.Line-1+first, err.Error())
			}
		}
		if _, relays := rule.Env[relayClient]; relays && everybody(rule.Pattern) {
			v.at(rule.Line-1+first, relayClient+" for so many would make an open relay")
		}
	}
	r.Rules = rules
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t") // blanks at ends mean nothing, and YAML may lose them
	}
	v.canon = strings.Join(lines, "\n")
}

// at is a fault some lines below the value's first.
func (v *value) at(below int, reason string) {
	v.doc.errs = append(v.doc.errs, &Error{File: v.doc.file, Line: v.doc.lineOf(v.node) + below, Reason: v.path + ": " + reason})
}

// everybody reports an address of a rule that holds most of the Internet.
func everybody(pattern string) bool {
	if pattern == "" || pattern == "=" {
		return true
	}
	_, length, _ := strings.Cut(pattern, "/")
	bits, err := strconv.Atoi(length)
	return err == nil && (bits < 8 || strings.Contains(pattern, ":") && bits < 16)
}

// ConnRules are the rules of a service; those of no document allow everybody.
func (s *Snapshot) ConnRules(service string) *Rules {
	if r := s.rules[service]; r != nil {
		return r
	}
	r := newRules()
	r.Service = service
	return r
}

// Holds reports whether one of networks holds addr.
func Holds(networks []netip.Prefix, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Counts reports whether an answer of the list says that a client is on it.
func (l *DNSList) Counts(a netip.Addr) bool {
	if len(l.Answers) > 0 {
		return Holds(l.Answers, a)
	}
	b := a.Unmap().As16()
	return a.Unmap().Is4() && b[12] == 127 && !(b[13] == 255 && b[14] == 255) // RFC 5782 2.1
}
