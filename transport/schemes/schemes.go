// Package schemes finds the transport of a target by its scheme. Adding a
// transport is its own folder and one case here.
package schemes

import (
	"context"
	"errors"
	"fmt"

	"qstream/mail"
	"qstream/transport"
	"qstream/transport/discard"
	"qstream/transport/maildir"
	"qstream/transport/qmtp"
	"qstream/transport/resolver"
	"qstream/transport/smtp"
)

// Config is what the transports of a process share. Resolver is required.
type Config struct {
	Resolver *resolver.Resolver
	SMTP     smtp.Config // limits of SMTP and LMTP; Resolver and LMTP are filled in
}

// Set is every transport, safe for concurrent use. It is a Transport itself:
// Deliver goes to the one that the target's scheme names.
type Set struct {
	all map[string]transport.Transport
}

// Names are the schemes that a route may use to deliver.
var Names = []string{"smtp", "lmtp", "qmtp", "qmtps", "qmqp", "maildir", "discard"}

// New makes a transport for each scheme; it starts and opens nothing.
func New(cfg Config) (*Set, error) {
	s := &Set{all: map[string]transport.Transport{}}
	for _, name := range Names {
		t, err := construct(name, cfg)
		if err != nil {
			return nil, fmt.Errorf("transport %s: %w", name, err)
		}
		s.all[name] = t
	}
	return s, nil
}

// construct is the one switch over schemes.
func construct(scheme string, cfg Config) (transport.Transport, error) {
	switch scheme {
	case "smtp", "lmtp":
		c := cfg.SMTP
		c.Resolver, c.LMTP = cfg.Resolver, scheme == "lmtp"
		return smtp.New(c)
	case "qmtp", "qmtps", "qmqp":
		return qmtp.New(qmtp.Config{Protocol: qmtp.Protocol(scheme), Resolver: cfg.Resolver})
	case "maildir":
		return maildir.New(), nil
	case "discard":
		return discard.New(), nil
	}
	return nil, errors.New("no such scheme")
}

// Deliver makes the attempt with the transport of t's scheme. An unknown
// scheme is temporary: a newer process may know it.
func (s *Set) Deliver(ctx context.Context, t transport.Target, a *transport.Attempt) transport.Result {
	tr := s.all[t.Scheme]
	if tr == nil {
		return transport.Result{Outcomes: a.All(transport.Outcome{
			Kind:   transport.Failed,
			At:     transport.AtLookup,
			Status: mail.Status{Code: 451, Enhanced: "4.3.5", Text: "no transport for scheme " + t.Scheme},
		})}
	}
	return tr.Deliver(ctx, t, a)
}

// Close closes every transport.
func (s *Set) Close() error {
	var errs []error
	for _, t := range s.all {
		errs = append(errs, t.Close())
	}
	return errors.Join(errs...)
}
