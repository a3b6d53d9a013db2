package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"qstream/directory"
	"qstream/mail"
	"qstream/qmail"
)

type explainConnectionCmd struct {
	System
	IP      string  `arg:"" help:"Address of the client."`
	Service string  `default:"smtp" placeholder:"SERVICE" help:"smtp (default), submission, submissions, qmqp, qmtp, qmtps or http."`
	Name    string  `placeholder:"HOST" help:"The client's verified host name; it is not looked up here."`
	Info    string  `placeholder:"INFO" help:"What ident says, for rules with info@."`
	Number  *uint64 `placeholder:"NUMBER" help:"By the directory as it was at this number."`
	JSON    bool    `name:"json" help:"Print JSON."`
}

func (c *explainConnectionCmd) Run(ctx context.Context, p *Process) error {
	ip, err := netip.ParseAddr(c.IP)
	if err != nil {
		return usagef("%s: want an IP address", mail.Printable(c.IP))
	}
	if !slices.Contains(directory.Services, c.Service) {
		return usagef("--service: there is no service %q", mail.Printable(c.Service))
	}
	b, err := c.Open(ctx)
	if err != nil {
		return err
	}
	defer b.Close()
	get := getCmd{Number: c.Number}
	s, err := get.snapshot(ctx, b)
	if err != nil {
		return err
	}
	out := c.explain(s, ip)
	if c.JSON {
		return printJSON(p.Stdout, out)
	}
	out.print(p.Stdout)
	return nil
}

// connectionJSON is what happens to a connection, as JSON.
type connectionJSON struct {
	Number    uint64            `json:"number"`
	Service   string            `json:"service"`
	Document  string            `json:"document,omitempty"`
	Line      int               `json:"line,omitempty"` // of the rules' text
	Pattern   string            `json:"pattern"`
	Action    string            `json:"action"`
	Variables map[string]string `json:"variables"`
	NeedsName bool              `json:"needs_name"`
	Balancer  bool              `json:"balancer"`
	XClient   bool              `json:"xclient"`
	Limits    []string          `json:"limits"`
	Lists     []string          `json:"lists"`
	Greeting  string            `json:"greeting,omitempty"`
	Scan      *sessionScanJSON  `json:"scan,omitempty"` // of mail within the session
}

type sessionScanJSON struct {
	Policy   string   `json:"policy"`
	Engines  []string `json:"engines"`
	Deadline string   `json:"deadline"`
	Busy     string   `json:"busy"`
	Late     string   `json:"late"`
	Down     string   `json:"down"`
}

func (c *explainConnectionCmd) explain(s *directory.Snapshot, ip netip.Addr) connectionJSON {
	r := s.ConnRules(c.Service)
	who := qmail.Client{IP: ip, Name: c.Name, Info: c.Info}
	rule, _ := r.Rules.Find(who)
	out := connectionJSON{
		Number: s.Number, Service: c.Service, Line: rule.Line, Pattern: rule.Pattern, Action: "allow", Variables: rule.Over(r.Env),
		NeedsName: r.Rules.NeedsName(who), Balancer: directory.Holds(r.Proxy, ip), XClient: directory.Holds(r.XClient, ip),
		Limits: limitTexts(r.Limits, ip),
	}
	if d, ok := s.Document(directory.Ref{Kind: directory.KindRules, Name: c.Service}); ok {
		out.Document = d.Ref.String()
	}
	if rule.Deny {
		out.Action = "deny"
	}
	if scan := s.SessionScan(c.Service, rule); scan.Policy != "" && !rule.Deny {
		out.Scan = &sessionScanJSON{
			Policy: scan.Policy, Engines: s.Scan(scan.Policy).Engines, Deadline: directory.FormatDuration(scan.Deadline),
			Busy: scan.Busy, Late: scan.Late, Down: scan.Down,
		}
	}
	if _, set := out.Variables["RBLSMTPD"]; !set {
		for _, l := range r.DNSBL.Block {
			out.Lists = append(out.Lists, fmt.Sprintf("%s (weight %d of %d)", l.Zone, l.Weight, r.DNSBL.Threshold))
		}
		for _, l := range r.DNSBL.Allow {
			out.Lists = append(out.Lists, l.Zone+" (allows)")
		}
	}
	if delay, set := out.Variables["GREETDELAY"]; set {
		out.Greeting = delay + "s"
	} else if r.Greet.Delay > 0 {
		out.Greeting = directory.FormatDuration(r.Greet.Delay)
	}
	return out
}

// limitTexts are the limits that hold for an address.
func limitTexts(l directory.ConnLimits, ip netip.Addr) (texts []string) {
	bits := l.IPv6Bits
	if ip.Unmap().Is4() {
		bits = l.IPv4Bits
	}
	network, _ := ip.Unmap().WithZone("").Prefix(bits) // the directory checked the length
	for _, s := range []struct {
		whose string
		most  int
		rate  directory.ConnRate
	}{
		{"all clients", l.Connections, l.Rate},
		{"address " + ip.String(), l.PerAddress, l.AddressRate},
		{"network " + network.String(), l.PerNetwork, l.NetworkRate},
	} {
		if s.most > 0 {
			texts = append(texts, fmt.Sprintf("%s: %d open at once in each process", s.whose, s.most))
		}
		if s.rate.Count > 0 {
			texts = append(texts, fmt.Sprintf("%s: %d new in %s in each process", s.whose, s.rate.Count, directory.FormatDuration(s.rate.Per)))
		}
	}
	return texts
}

func (out connectionJSON) print(w io.Writer) {
	fmt.Fprintf(w, "service %s, directory number %d\n", out.Service, out.Number)
	switch {
	case out.Document == "":
		fmt.Fprintln(w, "no rules document: everybody is allowed")
	case out.Line == 0:
		fmt.Fprintf(w, "%s: no rule: %s\n", out.Document, out.Action)
	default:
		fmt.Fprintf(w, "%s, line %d of its rules: %q: %s\n", out.Document, out.Line, out.Pattern, out.Action)
	}
	for _, name := range slices.Sorted(maps.Keys(out.Variables)) {
		fmt.Fprintf(w, "variable %s=%q\n", name, out.Variables[name])
	}
	for _, text := range out.Limits {
		fmt.Fprintln(w, "limit for", text)
	}
	for _, text := range out.Lists {
		fmt.Fprintln(w, "list", text)
	}
	if out.Greeting != "" {
		fmt.Fprintln(w, "greeting after", out.Greeting)
	}
	if s := out.Scan; s != nil {
		engines := cmp.Or(strings.Join(s.Engines, ", "), "no engines: all passes")
		fmt.Fprintf(w, "scanned within the session by policy %s (%s), within %s; busy: %s, late: %s, down: %s\n",
			s.Policy, engines, s.Deadline, s.Busy, s.Late, s.Down)
	} else if policy, set := out.Variables["SCANPOLICY"]; set && policy == "" && out.Action == "allow" {
		fmt.Fprintln(w, "not scanned within the session: SCANPOLICY is empty")
	}
	if out.NeedsName {
		fmt.Fprintln(w, "the host name can change this: an edge looks it up; here --name tells it")
	}
	if out.Balancer {
		fmt.Fprintln(w, "listed as a balancer: it must send a PROXY header, whose client is what counts")
	}
	if out.XClient {
		fmt.Fprintln(w, "may send XCLIENT")
	}
}
