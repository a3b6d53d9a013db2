package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"qstream/bus"
	"qstream/bus/embedded"
	"qstream/mail"
)

// defaultData is where up keeps its data and where verbs look for it: a
// folder of the working directory, so that nothing is hidden from who tries
// it out and two trials don't meet.
const defaultData = "qstream-data"

// System is how a verb finds a system's broker: embed it and call Open.
type System struct {
	Place  `embed:""`
	Broker `embed:""`
}

// Place is where a running up is.
type Place struct {
	Data string `placeholder:"DIR" type:"path" help:"Data directory of a running up (default: ${data})."`
	API  string `name:"api" placeholder:"URL" help:"HTTP address of a running up, or of a ledger for what it answers, such as http://127.0.0.1:8025."`
}

// Broker is how a process reaches a Kafka cluster.
type Broker struct {
	Kafka             []string `placeholder:"HOST:PORT" help:"Kafka brokers to start from."`
	KafkaTLS          bool     `name:"kafka-tls" help:"Speak TLS to the brokers."`
	KafkaCA           string   `name:"kafka-ca" placeholder:"FILE" type:"path" help:"PEM file of the authorities that sign the brokers' certificates (default: the system's)."`
	KafkaCert         string   `placeholder:"FILE" type:"path" help:"PEM file of our certificate."`
	KafkaKey          string   `placeholder:"FILE" type:"path" help:"PEM file of our certificate's key."`
	KafkaSASL         string   `name:"kafka-sasl" placeholder:"MECHANISM" enum:",PLAIN,SCRAM-SHA-256,SCRAM-SHA-512" default:"" help:"PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."`
	KafkaUser         string   `placeholder:"NAME" help:"SASL user."`
	KafkaPasswordFile string   `placeholder:"FILE" type:"path" help:"File that holds the SASL password."`
}

// Running is what a running up tells about itself in DIR/run.json.
type Running struct {
	PID   int      `json:"pid"`
	Kafka []string `json:"kafka"`
	HTTP  string   `json:"http,omitempty"`
	SMTP  string   `json:"smtp,omitempty"`
	QMQP  string   `json:"qmqp,omitempty"`
	QMTP  string   `json:"qmtp,omitempty"`
	QMTPS string   `json:"qmtps,omitempty"`

	Submission     string `json:"submission,omitempty"`
	Submissions    string `json:"submissions,omitempty"`
	HTTPSubmission string `json:"http_submission,omitempty"`

	Data     string `json:"data"`
	Embedded bool   `json:"embedded"`
}

// Open connects to the system and makes sure that a broker answers.
func (s *System) Open(ctx context.Context) (*bus.Bus, error) {
	cfg, err := s.Config(ctx)
	if err != nil {
		return nil, err
	}
	if cfg.Now, err = clock(os.Getenv("QSTREAM_CLOCK_OFFSET")); err != nil {
		return nil, err
	}
	// A verb reports a broker that went away, such as a restarted up's.
	cfg.Patience = 15 * time.Second
	b, err := bus.Dial(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := b.Ping(ctx); err != nil {
		b.Close()
		return nil, fmt.Errorf("reach broker %s: %w", strings.Join(cfg.Seeds, ","), err)
	}
	return b, nil
}

// Config is how to dial the system's broker.
func (s *System) Config(ctx context.Context) (bus.Config, error) {
	if len(s.Kafka) > 0 {
		return s.Broker.config()
	}
	running, err := s.Find(ctx)
	if err != nil {
		return bus.Config{}, err
	}
	b := s.Broker
	b.Kafka = running.Kafka
	cfg, err := b.config()
	if err == nil && running.Embedded {
		cfg.Barrier, err = embedded.Barrier(running.Data)
	}
	return cfg, err
}

// Find asks the data directory or the HTTP address for the running system.
func (s *Place) Find(ctx context.Context) (Running, error) {
	if s.API != "" {
		return findByHTTP(ctx, s.API)
	}
	dir := s.Data
	if dir == "" {
		dir = defaultData
	}
	return findByData(dir)
}

func runFile(dir string) string { return filepath.Join(dir, "run.json") }

func findByData(dir string) (Running, error) {
	var r Running
	text, err := os.ReadFile(runFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("nothing runs on %s; start it with: qstream up --data %s (or name a system by --data, --api or --kafka)", dir, dir)
	}
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("read %s: %w", runFile(dir), err)
	}
	return r, nil
}

// apiBase is the address of --api, to which paths are appended.
func apiBase(api string) (string, error) {
	u, err := url.Parse(api)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", usagef("--api %s: want the address of a process's HTTP, such as http://127.0.0.1:8025", mail.Printable(api))
	}
	return strings.TrimSuffix(api, "/"), nil
}

func findByHTTP(ctx context.Context, api string) (Running, error) {
	var r Running
	base, err := apiBase(api)
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/system", nil)
	if err != nil {
		return r, usagef("--api %s: %w", mail.Printable(api), err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return r, fmt.Errorf("--api: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return r, fmt.Errorf("--api: GET %s: %s; only the HTTP address of an up answers this", req.URL, res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(&r); err != nil {
		return r, fmt.Errorf("--api: GET %s: %w", req.URL, err)
	}
	return r, nil
}

// config turns the flags into the bus's configuration.
func (k Broker) config() (bus.Config, error) {
	cfg := bus.Config{Seeds: k.Kafka}
	var err error
	if cfg.TLS, err = k.tls(); err != nil {
		return cfg, err
	}
	if k.KafkaSASL == "" {
		return cfg, nil
	}
	password, err := os.ReadFile(k.KafkaPasswordFile)
	if err != nil {
		return cfg, fmt.Errorf("--kafka-password-file: %w", err)
	}
	cfg.SASL = bus.SASL{Mechanism: k.KafkaSASL, User: k.KafkaUser, Password: strings.TrimRight(string(password), "\r\n")}
	return cfg, nil
}

func (k Broker) tls() (*tls.Config, error) {
	if !k.KafkaTLS {
		if k.KafkaCA+k.KafkaCert+k.KafkaKey != "" {
			return nil, usagef("--kafka-ca, --kafka-cert and --kafka-key need --kafka-tls")
		}
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.KafkaCA != "" {
		pem, err := os.ReadFile(k.KafkaCA)
		if err != nil {
			return nil, fmt.Errorf("--kafka-ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--kafka-ca %s: no certificate in it", k.KafkaCA)
		}
	}
	if k.KafkaCert != "" {
		pair, err := tls.LoadX509KeyPair(k.KafkaCert, k.KafkaKey)
		if err != nil {
			return nil, fmt.Errorf("--kafka-cert: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
