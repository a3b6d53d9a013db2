package smtp

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"

	"qstream/mail"
	"qstream/transport"
	"qstream/transport/resolver"
)

// host is one address to connect to, and from where.
type host struct {
	name   string
	ip     netip.Addr // invalid for a socket
	net    string     // "tcp", "unix"
	addr   string     // host:port, or path
	pref   uint16
	source netip.Addr // invalid: the system's choice
	plain  bool       // TLS failed here a moment ago
}

// errNoSource: the queue's identity has no address of the hosts' families.
var errNoSource = mail.Status{Code: 451, Enhanced: "4.4.4", Text: "no source address for the address family of any host"}

// hosts are the candidates of a target, in the order in which to try them.
func (c *Client) hosts(ctx context.Context, t transport.Target, a *transport.Attempt) ([]host, error) {
	if t.Path != "" {
		// The name ends in reports to senders, whom local paths don't concern.
		return []host{{name: "localhost", net: "unix", addr: t.Path}}, nil
	}
	var found []resolver.Host
	var err error
	if t.Host == "mx" {
		found, err = c.cfg.Resolver.Mail(ctx, t.Domain, a.Own)
	} else {
		found, err = c.cfg.Resolver.Addresses(ctx, t.Host)
	}
	if err != nil {
		return nil, err
	}
	port := t.Port
	if port == 0 {
		port = c.defaultPort()
	}
	var hosts []host
	for _, f := range found {
		source, ok := a.SourceFor(f.Addr)
		if !ok {
			continue
		}
		hosts = append(hosts, host{
			name: f.Name, ip: f.Addr, net: "tcp", pref: f.Pref, source: source,
			addr: net.JoinHostPort(f.Addr.String(), strconv.Itoa(port)),
		})
	}
	if len(hosts) == 0 {
		return nil, errNoSource
	}
	return hosts, nil
}

func (c *Client) defaultPort() int {
	if c.cfg.LMTP {
		return 24
	}
	return 25
}

// lookedUp is the name that a lookup for t asks for.
func lookedUp(t transport.Target) string {
	if t.Host == "mx" {
		return t.Domain
	}
	return t.Host
}

// lookupError makes a failure of a lookup of name.
func lookupError(name string, err error) *failure {
	f := &failure{at: transport.AtLookup, final: true, err: err}
	if !errors.As(err, &f.status) {
		f.status = mail.Status{Code: 451, Enhanced: "4.4.3", Text: "lookup failed"}
	}
	f.status.Text = name + ": " + f.status.Text
	return f
}
