package ingest

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus/bustest"
)

// lines keeps what is logged.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) have(parts ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.all.String()) {
		found := true
		for _, p := range parts {
			found = found && strings.Contains(line, p)
		}
		if found {
			return true
		}
	}
	return false
}

// counted sums the series of a metric that have all the labels' values.
func counted(t *testing.T, r *prometheus.Registry, name string, values ...string) (n float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.Metric {
			found := 0
			for _, l := range m.Label {
				for _, v := range values {
					if l.GetValue() == v {
						found++
					}
				}
			}
			if found == len(values) {
				n += m.Counter.GetValue()
			}
		}
	}
	return n
}

// TestLimitsAreTold: each limit of the edge has a metric and a line in the log.
func TestLimitsAreTold(t *testing.T) {
	t.Parallel()
	const (
		gated, refusals, ends = "qstream_ingest_gate_connections_total", "qstream_ingest_refusals_total", "qstream_ingest_smtp_ends_total"
		mail                  = "EHLO x\r\nMAIL FROM:<a@strange.example>\r\n"
		rcpt                  = "RCPT TO:<b@acme.example>\r\n"
		data                  = mail + rcpt + "DATA\r\n"
	)
	short := func(c *Config) { c.CommandTimeout, c.DataTimeout = 100*time.Millisecond, 100*time.Millisecond }
	vars := func(v string) string { return rulesFor("rules: '127.:allow," + v + "'\n") }
	limit := func(l string) string { return rulesFor("limits: {" + l + "}\n") }
	for _, tt := range []struct {
		name, site, service string
		cfg                 func(*Config)
		before              int    // connections that are open already
		say                 string // what the client says
		metric, value       string
		log                 []string
	}{
		{name: "connections of the process", cfg: func(c *Config) { c.MaxConnections = 1 }, before: 1,
			metric: "qstream_ingest_smtp_connections_total", value: "refused", log: []string{"connection refused", "reason=max_connections", "127.0.0.1"}},
		{name: "the same by QMQP", service: "qmqp", cfg: func(c *Config) { c.MaxConnections = 1 }, before: 1,
			metric: "qstream_ingest_qmqp_connections_total", value: "refused", log: []string{"connection refused", "reason=max_connections"}},
		{name: "in all", site: limit("connections: 1"), before: 1, metric: gated, value: "limit_total", log: []string{"connection refused", "reason=limit_total"}},
		{name: "of the address", site: limit("per_address: 1"), before: 1, metric: gated, value: "limit_address", log: []string{"reason=limit_address"}},
		{name: "of the network", site: limit("per_network: 1"), before: 1, metric: gated, value: "limit_network", log: []string{"reason=limit_network"}},
		{name: "rate in all", site: limit("rate: 1/1h"), before: 1, metric: gated, value: "rate_total", log: []string{"reason=rate_total"}},
		{name: "rate of the address", site: limit("address_rate: 1/1h"), before: 1, metric: gated, value: "rate_address", log: []string{"reason=rate_address"}},
		{name: "rate of the network", site: limit("network_rate: 1/1h"), before: 1, metric: gated, value: "rate_network", log: []string{"reason=rate_network"}},
		{name: "denied", site: rulesFor("rules: '127.:deny'\n"), metric: gated, value: "denied", log: []string{"reason=denied", "line=1"}},
		{name: "early", site: rulesFor("greet: {delay: 5s}\n"), say: "EHLO x\r\n", metric: gated, value: "early", log: []string{"reason=early"}},
		{name: "no header of a balancer", site: rulesFor("proxy: 127.0.0.1\n"), say: "EHLO x\r\n", metric: gated, value: "proxy", log: []string{"no proxy header"}},
		{name: "time for a command", cfg: short, metric: ends, value: "timeout", log: []string{"client sent away", "reason=timeout"}},
		{name: "time for content", cfg: short, say: data + "x", metric: ends, value: "timeout", log: []string{"client sent away", "reason=timeout"}},
		{name: "time by QMQP", service: "qmqp", cfg: short, say: "5", metric: "qstream_ingest_qmqp_ends_total", value: "timeout", log: []string{"client turned away", "reason=timeout"}},
		{name: "errors", say: strings.Repeat("X\r\n", 10), metric: ends, value: "errors", log: []string{"client sent away", "reason=errors"}},
		{name: "failures to sign in", site: usersSite(t), cfg: func(c *Config) { c.SMTPAuth, c.PlainAuth = true, true },
			say: "EHLO x\r\n" + strings.Repeat(plain("eve", "x"), 3), metric: ends, value: "failures", log: []string{"client sent away", "reason=failures"}},
		{name: "content before its time", say: mail + "DATA\r\nMAIL FROM:<evil@strange.example>\r\n", metric: ends, value: "ahead", log: []string{"client sent away", "reason=ahead"}},
		{name: "announced size", cfg: func(c *Config) { c.MaxSize = 1000 }, say: "EHLO x\r\nMAIL FROM:<> SIZE=1001\r\nQUIT\r\n", metric: refusals, value: "size", log: []string{"refused", "reason=size", "code=552"}},
		{name: "size", cfg: func(c *Config) { c.MaxSize = 10 }, say: data + "0123456789\r\n.\r\nQUIT\r\n", metric: refusals, value: "content", log: []string{"reason=content", "code=552"}},
		{name: "size by QMTP", service: "qmtp", cfg: func(c *Config) { c.QMTPMaxSize = 10 }, say: qmtp("0123456789\r\n", "", "b@acme.example") + "x", metric: refusals, value: "size", log: []string{"reason=size", "code=552"}},
		{name: "size by QMQP", service: "qmqp", cfg: func(c *Config) { c.QMQPMaxSize = 10 }, say: qmqp("0123456789\n", "", "b@acme.example"), metric: "qstream_ingest_qmqp_ends_total", value: "too_long", log: []string{"reason=too_long"}},
		{name: "recipients", cfg: func(c *Config) { c.MaxRecipients = 1 }, say: mail + rcpt + "RCPT TO:<c@acme.example>\r\nQUIT\r\n", metric: refusals, value: "recipients", log: []string{"reason=recipients", "code=452"}},
		{name: "recipients by QMQP", service: "qmqp", cfg: func(c *Config) { c.MaxRecipients = 1 }, say: qmqp("x\n", "", "b@acme.example", "c@acme.example"), metric: refusals, value: "recipients", log: []string{"reason=recipients", "code=550"}},
		{name: "recipients by QMTP", service: "qmtp", cfg: func(c *Config) { c.MaxRecipients = 1 }, say: qmtp("x\r\n", "", "b@acme.example", "c@acme.example") + "x", metric: refusals, value: "recipients", log: []string{"reason=recipients", "code=452"}},
		{name: "MAXRECIPIENTS", site: vars(`MAXRECIPIENTS="1"`), say: mail + rcpt + "RCPT TO:<c@acme.example>\r\nQUIT\r\n", metric: refusals, value: "recipients", log: []string{"reason=recipients", "code=452"}},
		{name: "DATABYTES", site: vars(`DATABYTES="10"`), say: data + "0123456789\r\n.\r\nQUIT\r\n", metric: refusals, value: "content", log: []string{"reason=content", "code=552"}},
		{name: "tarpit", site: vars(`TARPITCOUNT="1",TARPITDELAY="0"`) + "---\nkind: policy\nname: p\nrecipients: {list: [c@acme.example]}\n",
			say: mail + rcpt + rcpt + "QUIT\r\n", metric: refusals, value: "tarpit", log: []string{"reason=tarpit", "code=452"}},
		{name: "hops", say: data + strings.Repeat("Received: x\r\n", 101) + "\r\n.\r\nQUIT\r\n", metric: refusals, value: "content", log: []string{"reason=content", "code=554"}},
		{name: "line", cfg: func(c *Config) { c.MaxLine = 10 }, say: data + "01234567890\r\n.\r\nQUIT\r\n", metric: refusals, value: "content", log: []string{"reason=content", "code=550"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bustest.New(t)
			if tt.site == "" {
				tt.site = relaySite
			}
			apply(t, b, tt.site)
			cfg := anyPort(Config{})
			cfg.Auth.Delay = authDelay
			if tt.cfg != nil {
				tt.cfg(&cfg)
			}
			r, log := prometheus.NewRegistry(), &lines{}
			in, _ := startWith(t, b, cfg, func(d *Deps) { d.Metrics, d.Log = r, slog.New(slog.NewTextHandler(log, nil)) })
			if tt.service == "" {
				tt.service = ServiceSMTP
			}
			for range tt.before {
				c := connect(t, in, tt.service)
				if tt.service == ServiceSMTP {
					if _, err := c.Read(make([]byte, 100)); err != nil {
						t.Fatal(err)
					}
					continue
				}
				awaited(t, "a connection is open", func() bool { return counted(t, r, "qstream_ingest_qmqp_connections_total", "accepted") == 1 })
			}
			c := connect(t, in, tt.service)
			said := talk(t, c, tt.say)
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			_, _ = io.Copy(io.Discard, c)
			awaited(t, "the limit is counted and told; the client heard "+said, func() bool {
				return counted(t, r, tt.metric, tt.value) == 1 && log.have(tt.log...)
			})
		})
	}
}

// awaited waits until a condition holds.
func awaited(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
