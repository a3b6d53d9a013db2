package main

import (
	"context"
	"fmt"
	"net/netip"

	"qstream/directory"
	"qstream/mail"
)

// explainCmd says why qstream does what it does.
type explainCmd struct {
	Route      explainRouteCmd      `cmd:"" help:"Show how a recipient's tenant, queue and destination are decided."`
	Connection explainConnectionCmd `cmd:"" help:"Show the rule, the variables and the limits of a client's connection."`
	Message    explainMessageCmd    `cmd:"" help:"Show the decisions about a message, made again by the directory of then, and of today."`
}

type explainRouteCmd struct {
	System
	Address string  `arg:"" help:"Recipient."`
	From    *string `placeholder:"ADDRESS" help:"Reverse-path; empty or <> is the null one."`
	Client  string  `placeholder:"IP" help:"Address of the client that sends it."`
	Number  *uint64 `placeholder:"NUMBER" help:"Decide by the directory as it was at this number."`
	JSON    bool    `name:"json" help:"Print JSON."`
}

func (c *explainRouteCmd) Run(ctx context.Context, p *Process) error {
	var client netip.Addr
	if c.Client != "" {
		var err error
		if client, err = netip.ParseAddr(c.Client); err != nil {
			return usagef("--client %s: want an IP address", mail.Printable(c.Client))
		}
	}
	if c.Address == "" {
		return usagef("the recipient is empty: name an address")
	}
	if _, err := mail.ParseAddress(c.Address, true); err != nil {
		return usagef("%s: %w", mail.Printable(c.Address), err)
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
	return c.print(p, s, client)
}

// routeJSON is a decision as JSON.
type routeJSON struct {
	Number      uint64   `json:"number"`
	Recipient   string   `json:"recipient"`
	Tenant      string   `json:"tenant"`
	Queue       string   `json:"queue"`
	Generation  uint32   `json:"generation"`
	Route       string   `json:"route,omitempty"`
	Destination string   `json:"destination"`
	Via         string   `json:"via"`
	Refusal     string   `json:"refusal,omitempty"`
	Relay       string   `json:"relay,omitempty"`
	Steps       []string `json:"steps"`
}

func (c *explainRouteCmd) print(p *Process, s *directory.Snapshot, client netip.Addr) error {
	q := directory.Question{Recipient: c.Address, NullSender: c.From != nil && (*c.From == "" || *c.From == "<>")}
	relay := ""
	if client.IsValid() {
		q.Tenant, relay = mayRelay(s, client, c.Address)
	}
	d := s.Explain(q)
	out := routeJSON{
		Number: s.Number, Recipient: c.Address, Tenant: d.Tenant, Queue: d.Queue.Name, Generation: d.Queue.Generation,
		Route: d.Route, Destination: d.Destination, Via: d.Via.String(), Relay: relay, Steps: d.Steps,
	}
	if d.Refusal != nil {
		out.Refusal = d.Refusal.String()
	}
	if c.JSON {
		return printJSON(p.Stdout, out)
	}
	for i, step := range d.Steps {
		fmt.Fprintf(p.Stdout, "%d. %s\n", i+1, mail.Printable(step))
	}
	if relay != "" {
		fmt.Fprintln(p.Stdout, "client:", relay)
	}
	return nil
}

// mayRelay says whose a client is, and whether the edge takes the recipient
// from it.
func mayRelay(s *directory.Snapshot, client netip.Addr, recipient string) (tenant, answer string) {
	if t := s.ByNetwork(client); t != nil {
		return t.Name, fmt.Sprintf("%s is in a network of tenant %s, which may relay", client, t.Name)
	}
	if t := s.Owner(mail.Domain(recipient)); t != nil {
		return "", fmt.Sprintf("%s is in no tenant's network; accepted, since tenant %s owns the domain", client, t.Name)
	}
	return "", fmt.Sprintf("%s is in no tenant's network and nobody owns the domain: refused at RCPT (5.7.1)", client)
}
