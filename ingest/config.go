package ingest

import (
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"qstream/ingest/auth"
	"qstream/ingest/intake"
	"qstream/ingest/smtpd"
	"qstream/wire"
)

// Config are the settings of the edge. Zero values take the defaults.
type Config struct {
	SMTP           string        `yaml:"smtp"`            // listen address; default 127.0.0.1:2525
	QMQP           string        `yaml:"qmqp"`            // listen address; empty: not served
	QMTP           string        `yaml:"qmtp"`            // listen address; empty: not served
	QMTPS          string        `yaml:"qmtps"`           // listen address, with tls_cert and tls_key; empty: not served
	QMQPMaxSize    int64         `yaml:"qmqp_max_size"`   // octets of a message by QMQP; default max_size
	QMTPMaxSize    int64         `yaml:"qmtp_max_size"`   // octets of a message by QMTP and QMTPS; default max_size
	ClientCA       string        `yaml:"client_ca"`       // PEM file; clients with a certificate of these authorities may relay by QMTPS
	Hostname       string        `yaml:"hostname"`        // in greetings and Received lines; default: the host's name, in Received lines the site's
	MaxSize        int64         `yaml:"max_size"`        // octets of a message; default 50 MiB
	MaxRecipients  int           `yaml:"max_recipients"`  // of a message; default 1000
	MaxHops        int           `yaml:"max_hops"`        // Received lines; default 100
	MaxConnections int           `yaml:"max_connections"` // default 1000
	MaxLarge       int           `yaml:"max_large"`       // messages above 32 KiB taken at once, 1 MiB of memory each; default 128
	MaxScans       int           `yaml:"max_scans"`       // messages scanned within their sessions at once; default 64
	MaxLine        int           `yaml:"max_line"`        // octets of a text line; default 2000, below 0: no limit
	LineEnds       string        `yaml:"line_ends"`       // stray CR, LF and NUL: "reject" (default) or "normalise"
	PublishTimeout time.Duration `yaml:"publish_timeout"` // default 15s
	CommandTimeout time.Duration `yaml:"command_timeout"` // default 5m
	DataTimeout    time.Duration `yaml:"data_timeout"`    // for the next octets; default 3m
	MinRate        int           `yaml:"min_rate"`        // octets of content a second; default 128
	Grace          time.Duration `yaml:"grace"`           // for running transactions at the end; default 30s
	TLSCert        []string      `yaml:"tls_cert"`        // PEM files, read again when they change; the certificate is chosen by the name that the client asks for, the first by default
	TLSKey         []string      `yaml:"tls_key"`         // their keys, in the same order
	TLSClientCA    string        `yaml:"tls_client_ca"`   // PEM file of who vouches for clients' certificates

	Submission  string `yaml:"submission"`  // listen address of submission with STARTTLS; empty: not served
	Submissions string `yaml:"submissions"` // the same with TLS from the first octet
	HTTP        string `yaml:"http"`        // listen address of submission by HTTP, with TLS if there are certificates; empty: not served
	SMTPAuth    bool   `yaml:"smtp_auth"`   // offer AUTH on smtp, too
	SMTPTLS     string `yaml:"smtp_tls"`    // "offer" (default) or "require"
	PlainAuth   bool   `yaml:"plain_auth"`  // take passwords without TLS, and submission without it

	SMTPClientCert        string `yaml:"smtp_client_cert"` // certificates of clients: "none" (default), "request", "require"
	SubmissionClientCert  string `yaml:"submission_client_cert"`
	SubmissionsClientCert string `yaml:"submissions_client_cert"`
	HTTPClientCert        string `yaml:"http_client_cert"`

	HTTPMaxJSON int64 `yaml:"http_max_json"` // octets of a request in JSON; default 8 MiB
	MaxKeys     int   `yaml:"max_keys"`      // idempotency keys that are remembered; default 1,000,000

	Auth auth.Config `yaml:"auth"`
}

// DefaultSMTP is loopback: an edge is opened to the world on purpose.
const DefaultSMTP = "127.0.0.1:2525"

func (c Config) withDefaults() (Config, error) {
	if c.SMTP == "" {
		c.SMTP = DefaultSMTP
	}
	if c.Hostname == "" {
		name, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("ingest: host name: %w", err)
		}
		c.Hostname = name
	}
	if strings.ContainsFunc(c.Hostname, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return c, fmt.Errorf("ingest: host name %q is not a domain in ASCII", c.Hostname)
	}
	addresses := map[string]string{"qmqp": c.QMQP, "qmtp": c.QMTP, "qmtps": c.QMTPS, "http": c.HTTP}
	for _, s := range c.lines() {
		addresses[s.name] = s.addr
	}
	for name, addr := range addresses {
		if _, _, err := net.SplitHostPort(addr); addr != "" && err != nil {
			return c, fmt.Errorf("ingest: %s address: %w", name, err)
		}
	}
	for name, n := range map[string]int64{
		"qmqp_max_size": c.QMQPMaxSize, "qmtp_max_size": c.QMTPMaxSize, "max_size": c.MaxSize, "max_recipients": int64(c.MaxRecipients),
		"max_hops": int64(c.MaxHops), "max_connections": int64(c.MaxConnections), "max_large": int64(c.MaxLarge), "max_scans": int64(c.MaxScans),
		"http_max_json": c.HTTPMaxJSON, "max_keys": int64(c.MaxKeys),
		"publish_timeout": int64(c.PublishTimeout), "command_timeout": int64(c.CommandTimeout), "data_timeout": int64(c.DataTimeout),
	} {
		if n < 0 {
			return c, fmt.Errorf("ingest: %s must not be negative", name)
		}
	}
	if len(c.TLSCert) != len(c.TLSKey) {
		return c, fmt.Errorf("ingest: each tls_cert needs its tls_key, in the same order")
	}
	if c.SMTPTLS != "" && c.SMTPTLS != "offer" && c.SMTPTLS != "require" {
		return c, fmt.Errorf("ingest: smtp_tls %q is neither offer nor require", c.SMTPTLS)
	}
	if c.QMTPS != "" && len(c.TLSCert) == 0 {
		return c, fmt.Errorf("ingest: qmtps needs tls_cert and tls_key")
	}
	if c.HTTP != "" && len(c.TLSCert) == 0 && !c.PlainAuth {
		return c, fmt.Errorf("ingest: http needs tls_cert and tls_key")
	}
	if c.ClientCA != "" && c.QMTPS == "" {
		return c, fmt.Errorf("ingest: client_ca is for qmtps, which is not served")
	}
	return c, nil
}

func (c Config) policy() (wire.Policy, error) {
	switch c.LineEnds {
	case "", "reject":
		return wire.Reject, nil
	case "normalise":
		return wire.Normalise, nil
	}
	return 0, fmt.Errorf("ingest: line_ends %q is neither reject nor normalise", c.LineEnds)
}

// intake is the part of intake; by is the host name that was asked for.
func (c Config) intake(by string) intake.Config {
	return intake.Config{
		Hostname: c.Hostname, By: by, MaxSize: c.MaxSize, MaxRecipients: c.MaxRecipients,
		MaxHops: c.MaxHops, Timeout: c.PublishTimeout, Large: c.MaxLarge,
	}
}

// smtpd is what the services have in common.
func (c Config) smtpd() (smtpd.Config, error) {
	policy, err := c.policy()
	if err != nil {
		return smtpd.Config{}, err
	}
	return smtpd.Config{
		Hostname: c.Hostname, MaxSize: c.MaxSize, MaxRecipients: c.MaxRecipients,
		MaxConnections: c.MaxConnections, MaxLine: c.MaxLine, LineEnds: policy,
		CommandTimeout: c.CommandTimeout, DataTimeout: c.DataTimeout, MinRate: c.MinRate, Grace: c.Grace,
	}, nil
}
