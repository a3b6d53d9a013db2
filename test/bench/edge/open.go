package main

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/emersion/go-smtp"

	"qstream/bus"
	"qstream/bus/embedded"
	"qstream/directory"
	"qstream/ingest"
	"qstream/ingest/intake"
	"qstream/ingest/lookup"
	"qstream/ingest/smtpd"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
	"qstream/transport/resolver"
)

const site = `kind: site
me: mx.hub.example
---
kind: tenant
name: acme
domains: [acme.example]
---
kind: route
name: acme
match: {domain: acme.example}
via: smtp://127.0.0.1:9
`

// policy has every kind of policy that asks no DNS; what it lists is what
// sites list. The source's recipient is taken.
const policy = `---
kind: policy
name: p
bad_mail_from: ["*%*", "@spam.example", "@mydomain.example+", "!x@y.example"]
bad_rcpt_to: [nobody@acme.example, "*..*"]
bad_helo: [localhost, "*.dialup.example"]
bad_mime_types: [TVqQAAMAA, TVpQAAIAA, TVoAAAQAA]
bad_loader_types: [Mi5kb, MzIuZ]
recipients: {list: [a@acme.example, b@acme.example, u0@acme.example]}
variables: {DATABYTES: 1000000, TARPITCOUNT: 5}
`

func documents(kind string) ([]directory.Document, error) {
	text := site
	if strings.HasSuffix(kind, "+policies") {
		text += policy
	}
	return directory.Parse(directory.File{Name: "site", Data: []byte(text)})
}

// open opens a server; stop waits for its end after ctx has ended.
func open(ctx context.Context, kind string) (addr string, stop func() error, err error) {
	docs, err := documents(kind)
	if err != nil {
		return "", nil, err
	}
	switch kind {
	case embeddedPlain, embeddedPolicies:
		return openEmbedded(ctx, docs)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s, err := directory.Build(docs)
	if err != nil {
		return "", nil, err
	}
	dns, err := resolver.New(resolver.Config{})
	if err != nil {
		return "", nil, err
	}
	facts, err := lookup.New(lookup.Config{Hostname: "edge.example"}, dns, nil, nil, time.Now)
	if err != nil {
		return "", nil, err
	}
	in, err := intake.New(intake.Config{Hostname: "edge.example"}, intake.Deps{
		Bus: discard{}, Snapshot: func() *directory.Snapshot { return s }, Lookup: facts,
	})
	if err != nil {
		return "", nil, err
	}
	run := overSMTPD
	if kind == goSMTP {
		run = overGoSMTP
	}
	ended := make(chan error, 1)
	if err := run(ctx, l, in, ended); err != nil {
		return "", nil, err
	}
	return l.Addr().String(), func() error { return <-ended }, nil
}

// discard is a bus that has forgotten everything as soon as it was told.
type discard struct{}

func (discard) Publish(context.Context, ...*bus.Record) error { return nil }

// Create isn't reached: no mail here is large.
func (discard) Create(context.Context, string, string) *bus.Blob { return nil }

// Open isn't reached either.
func (discard) Open(context.Context, *pb.ContentRef) (io.ReadCloser, error) { return nil, io.EOF }

func overSMTPD(ctx context.Context, l net.Listener, in *intake.Intake, ended chan error) error {
	server, err := smtpd.New(smtpd.Config{Hostname: "edge.example"}, func(ctx context.Context, p smtpd.Peer) (smtp.Session, error) {
		return in.NewSession(ctx, intake.Client{Protocol: pb.Protocol_PROTOCOL_SMTP, Addr: p.Addr, HELO: p.HELO, ESMTP: p.ESMTP})
	}, nil, nil)
	if err != nil {
		return err
	}
	go func() { ended <- server.Serve(ctx, l) }()
	return nil
}

func overGoSMTP(ctx context.Context, l net.Listener, in *intake.Intake, ended chan error) error {
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		from, err := netip.ParseAddrPort(c.Conn().RemoteAddr().String())
		if err != nil {
			return nil, err
		}
		return in.NewSession(ctx, intake.Client{Protocol: pb.Protocol_PROTOCOL_SMTP, Addr: from, HELO: c.Hostname(), ESMTP: true})
	}))
	server.Domain, server.MaxMessageBytes, server.MaxRecipients = "edge.example", 50<<20, 1000
	server.EnableSMTPUTF8, server.EnableDSN = true, true
	server.ErrorLog = log.New(io.Discard, "", 0)
	go func() {
		<-ctx.Done()
		_ = server.Close()
	}()
	go func() {
		err := server.Serve(l)
		if errors.Is(err, smtp.ErrServerClosed) {
			err = nil
		}
		ended <- err
	}()
	return nil
}

// openEmbedded opens the whole edge, gate and all, on an embedded broker.
func openEmbedded(ctx context.Context, docs []directory.Document) (string, func() error, error) {
	dir, err := os.MkdirTemp("", "qstream-bench-edge-")
	if err != nil {
		return "", nil, err
	}
	broker, err := embedded.Start(embedded.Config{Dir: dir})
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	b, err := bus.Dial(bus.Config{
		Seeds: broker.Seeds(), Dial: broker.Dial, Barrier: broker.Barrier, Lost: broker.Lost, Admit: broker.Admit, Spent: broker.Spent,
	})
	if err != nil {
		return "", nil, errors.Join(err, broker.Close(), os.RemoveAll(dir))
	}
	closed := func() error {
		b.Close()
		return errors.Join(broker.Close(), os.RemoveAll(dir))
	}
	addr, ended, err := openIngest(ctx, b, docs)
	if err != nil {
		return "", nil, errors.Join(err, closed())
	}
	return addr, func() error { return errors.Join(ended(), closed()) }, nil
}

func openIngest(ctx context.Context, b *bus.Bus, docs []directory.Document) (string, func() error, error) {
	if _, err := b.CreateTopics(ctx, schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		return "", nil, err
	}
	if _, err := directory.Apply(ctx, b, directory.Change{Documents: docs}, directory.Options{Actor: "bench"}); err != nil {
		return "", nil, err
	}
	follower := directory.Follow(b)
	followed, served := make(chan error, 1), make(chan error, 1)
	go func() { followed <- follower.Run(ctx) }()
	select {
	case <-follower.Ready():
	case err := <-followed:
		return "", nil, err
	}
	in, err := ingest.New(ingest.Config{SMTP: "127.0.0.1:0", Hostname: "edge.example"}, ingest.Deps{
		Bus: b, Directory: follower, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return "", nil, err
	}
	if err := in.Listen(); err != nil {
		return "", nil, err
	}
	go func() { served <- in.Run(ctx) }()
	return in.Addr().String(), func() error {
		err := <-served
		<-followed
		return err
	}, nil
}
