package sinks

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/sink"
	"qstream/transport"
	"qstream/transport/resolver"
	"qstream/transport/smtp"
)

// journalSink mails copies to a journal mailbox. A host that refuses one for
// good is asked again like one that is down: nothing is ever bounced to who
// sent the message, and nothing is skipped. A reply that got lost behind the
// final dot means a second report, with the same Message-ID.
type journalSink struct {
	client *smtp.Client
	target transport.Target
	form   sink.Form
	to     string
	from   string
	me     string
}

func newJournal(spec sink.Spec, d sink.Deps) (*journalSink, error) {
	r, err := resolver.New(resolver.Config{})
	if err != nil {
		return nil, err
	}
	cfg := smtp.Config{Resolver: r, NoTLS: spec.Option("tls") == "off"}
	if spec.Option("tls") == "verify" {
		if cfg.Secure, err = tlsConfig(spec); err != nil {
			return nil, err
		}
	}
	client, err := smtp.New(cfg)
	if err != nil {
		return nil, err
	}
	return &journalSink{
		client: client, target: transport.Target{Host: spec.Host, Port: spec.Port},
		form: sink.Form(spec.Option("form")), to: spec.Option("to"), from: spec.Option("from"), me: d.Me,
	}, nil
}

func (s *journalSink) Put(ctx context.Context, c sink.Copy) error {
	a, err := attempt(ctx, &c, s.form, s.me)
	if err != nil {
		return err
	}
	a.ReversePath, a.Revoked = s.from, ctx
	a.Recipients = []*pb.Recipient{{Address: s.to}}
	if s.from == "" { // nobody would read a report
		a.Recipients[0].Notify = []pb.Notify{pb.Notify_NOTIFY_NEVER}
	}
	return failed(s.client.Deliver(ctx, s.target, a))
}

func (s *journalSink) Close() error { return s.client.Close() }

// tlsConfig is what a sink checks its peer by: the system's roots, or those of
// ca_file.
func tlsConfig(spec sink.Spec) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	file := spec.Option("ca_file")
	if file == "" {
		return cfg, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	cfg.RootCAs = x509.NewCertPool()
	if !cfg.RootCAs.AppendCertsFromPEM(text) {
		return nil, errors.New("ca_file holds no certificate")
	}
	return cfg, nil
}
