package main

import (
	"context"
	"time"

	"qstream/ingest"
)

// ingestCmd runs the edge alone.
type ingestCmd struct {
	roleFlags
	ingestFlags
	QMQP string `name:"qmqp" placeholder:"ADDR" help:"Serve QMQP here, such as :628, to clients that may relay (default: nowhere)."`
	QMTP string `name:"qmtp" placeholder:"ADDR" help:"Serve QMTP here, such as :209 (default: nowhere)."`
	dnsFlags
}

// ingestFlags are the edge's settings.
type ingestFlags struct {
	SMTP           string `name:"smtp" placeholder:"ADDR" default:"127.0.0.1:2525" help:"Serve SMTP here (default: ${default})."`
	QMTPS          string `name:"qmtps" placeholder:"ADDR" help:"Serve QMTP in TLS here, such as :6209 (default: nowhere)."`
	QMQPMaxSize    int64  `name:"qmqp-max-size" placeholder:"OCTETS" help:"Largest message by QMQP (default: as --max-size)."`
	QMTPMaxSize    int64  `name:"qmtp-max-size" placeholder:"OCTETS" help:"Largest message by QMTP (default: as --max-size)."`
	HTTPMaxJSON    int64  `name:"http-max-json" placeholder:"OCTETS" help:"Largest request in JSON by HTTP (default: 8388608)."`
	MaxKeys        int    `placeholder:"N" help:"Most idempotency keys of a day, up to 120 octets each (default: 1000000)."`
	ClientCA       string `name:"client-ca" placeholder:"FILE" type:"path" help:"PEM file of authorities; who has a certificate of theirs may relay by QMTPS."`
	Hostname       string `placeholder:"NAME" help:"Our name in greetings and Received lines (default: the host's)."`
	tlsFlags       `embed:""`
	authFlags      `embed:""`
	MaxSize        int64         `placeholder:"OCTETS" help:"Largest message (default: 52428800)."`
	MaxRecipients  int           `placeholder:"N" help:"Most recipients of a message (default: 1000)."`
	MaxConnections int           `placeholder:"N" help:"Most connections at once (default: 1000)."`
	MaxScans       int           `placeholder:"N" help:"Most messages scanned within their sessions at once, where a connection rule asks for it (default: 64)."`
	MaxLarge       int           `placeholder:"N" help:"Most messages above 32 KiB taken at once, 1 MiB of memory each (default: 128)."`
	MaxHops        int           `placeholder:"N" help:"Most Received lines of a message (default: 100)."`
	MaxLine        int           `placeholder:"OCTETS" help:"Longest text line of a message, -1 for no limit (default: 2000)."`
	LineEnds       string        `enum:"reject,normalise" default:"reject" help:"What to do with bare CR, LF and NUL: reject or normalise."`
	PublishTimeout time.Duration `placeholder:"TIME" help:"After this without Kafka's acknowledgement the client hears 451 (default: 15s)."`
	CommandTimeout time.Duration `placeholder:"TIME" help:"Longest wait for a command (default: 5m)."`
	DataTimeout    time.Duration `placeholder:"TIME" help:"Longest wait for more content (default: 3m)."`
	MinRate        int           `placeholder:"OCTETS" help:"Slowest content, in octets a second (default: 128)."`
	IngestGrace    time.Duration `placeholder:"TIME" help:"How long running transactions may go on at a stop (default: 30s)."`
}

func (c *ingestCmd) Run(ctx context.Context, p *Process) error {
	return c.run(ctx, p, c.role(c.dnsFlags, c.QMQP, c.QMTP))
}
func (c *ingestCmd) check(p *Process) error {
	return c.checkRoles(p, c.role(c.dnsFlags, c.QMQP, c.QMTP))
}

// role serves QMQP and QMTP at these addresses, whose defaults are the verbs'.
func (f ingestFlags) role(d dnsFlags, qmqp, qmtp string) role {
	return role{"ingest", func(g ground) (stage, error) {
		r, err := d.resolver(g)
		if err != nil {
			return nil, err
		}
		cfg := f.config()
		cfg.QMQP, cfg.QMTP = qmqp, qmtp
		return ingest.New(cfg, ingest.Deps{
			Bus: g.bus, Directory: g.directory, Resolver: r, Log: g.log, Metrics: g.metrics, Now: g.now, Failpoint: g.failpoint,
		})
	}}
}

func (f ingestFlags) config() ingest.Config {
	return ingest.Config{
		SMTP: f.SMTP, QMTPS: f.QMTPS, QMQPMaxSize: f.QMQPMaxSize, QMTPMaxSize: f.QMTPMaxSize, ClientCA: f.ClientCA, Hostname: f.Hostname,
		TLSCert: f.TLSCert, TLSKey: f.TLSKey, TLSClientCA: f.TLSClientCA, SMTPTLS: f.SMTPTLS,
		SMTPClientCert: f.SMTPClientCert, SubmissionClientCert: f.SubmissionClientCert, SubmissionsClientCert: f.SubmissionsClientCert,
		HTTP: f.HTTPSubmission, HTTPClientCert: f.HTTPClientCert, HTTPMaxJSON: f.HTTPMaxJSON, MaxKeys: f.MaxKeys,
		Submission: f.Submission, Submissions: f.Submissions, SMTPAuth: f.SMTPAuth, PlainAuth: f.PlainAuth, Auth: f.auth(),
		MaxSize: f.MaxSize, MaxRecipients: f.MaxRecipients, MaxHops: f.MaxHops,
		MaxConnections: f.MaxConnections, MaxLarge: f.MaxLarge, MaxScans: f.MaxScans, MaxLine: f.MaxLine, LineEnds: f.LineEnds,
		PublishTimeout: f.PublishTimeout, CommandTimeout: f.CommandTimeout,
		DataTimeout: f.DataTimeout, MinRate: f.MinRate, Grace: f.IngestGrace,
	}
}

// served is where the edge among the stages serves a protocol; empty if it
// doesn't.
func served(stages []stage, protocol string) string {
	for _, s := range stages {
		if i, ok := s.(*ingest.Ingest); ok && i.AddrOf(protocol) != nil {
			return i.AddrOf(protocol).String()
		}
	}
	return ""
}
