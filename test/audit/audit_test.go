// Package audit holds `qstream audit` against real processes: records deleted
// from each topic are named, and mail under way never is. The brokers are
// those that QSTREAM_TEST_BROKERS names: "embedded" (the default; served by the
// test's process), "kafka1", "kafka3".
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/embedded"
	"qstream/ledger/audit"
	"qstream/test/fakedns"
	"qstream/test/fakemx"
	"qstream/test/rig"
)

func TestMain(m *testing.M) { rig.Main(m) }

// each runs f on the brokers asked for.
func each(t *testing.T, f func(t *testing.T, broker string)) {
	brokers := os.Getenv("QSTREAM_TEST_BROKERS")
	if brokers == "" {
		brokers = "embedded"
	}
	for broker := range strings.SplitSeq(brokers, ",") {
		t.Run(broker, func(t *testing.T) { f(t, broker) })
	}
}

// site is one broker with every role in a process of its own beside it.
type site struct {
	*rig.System
	t     *testing.T
	kafka []string
	bus   *bus.Bus
	sink  *fakemx.Server
}

// roles in the order of their start.
var roles = []string{"ledger", "router", "delay", "deliver", "ingest"}

// start starts it; mail is tried again after the time given.
func start(t *testing.T, broker, again string, rules ...fakemx.Rule) *site {
	t.Helper()
	sys, err := rig.New(broker, t.TempDir())
	must(t, err)
	s := &site{System: sys, t: t}
	s.sink, err = fakemx.Start(fakemx.Config{DigestOnly: true, Rules: rules})
	must(t, err)
	names, err := fakedns.Start("mx.sink.example. 60 IN A 127.0.0.1\n")
	must(t, err)
	s.Env = []string{"QSTREAM_DNS=" + names.Addr()}
	t.Cleanup(func() {
		sys.Close()
		s.sink.Close()
		names.Close()
	})
	if broker == "embedded" {
		k, err := embedded.Start(embedded.Config{Dir: filepath.Join(sys.Work, "broker")})
		must(t, err)
		t.Cleanup(func() { sys.Close(); _ = k.Close() })
		s.kafka = k.Seeds()
	} else {
		must(t, sys.StartBroker())
		s.kafka = sys.Kafka.Seeds()
	}
	s.bus, err = bus.Dial(bus.Config{Seeds: s.kafka})
	must(t, err)
	t.Cleanup(s.bus.Close)
	s.verb("topics", "create")
	s.verb("apply", s.documents(again))
	for _, role := range roles {
		must(t, s.begin(role))
	}
	return s
}

// begin starts a role's process.
func (s *site) begin(role string) error {
	args := []string{role, "--kafka", strings.Join(s.kafka, ",")}
	switch role {
	case "ingest":
		args = append(args, "--smtp", s.SMTP)
	case "ledger":
		args = append(args, "--audit-every=-1s", "--db", filepath.Join(s.Work, "ledger"))
	}
	return s.Start(role, nil, args...)
}

// verb runs a verb that must succeed.
func (s *site) verb(args ...string) {
	s.t.Helper()
	out, errs, err := s.Verb(append(args, "--kafka", strings.Join(s.kafka, ","))...)
	if err != nil {
		s.t.Fatalf("%v: %v\n%s%s", args, err, out, errs)
	}
}

// audit runs the verb and returns its report and its exit code.
func (s *site) audit(args ...string) (*audit.Report, int) {
	s.t.Helper()
	out, errs, err := s.Verb(append([]string{"audit", "--json", "--api", "http://" + s.Procs["ledger"].HTTP}, args...)...)
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		must(s.t, err)
	}
	var r audit.Report
	if err := json.Unmarshal(out, &r); err != nil {
		s.t.Fatalf("audit: exit %d, %v in %q\n%s", code, err, out, errs)
	}
	return &r, code
}

// balanced is an audit that must find nothing.
func (s *site) balanced(when string) *audit.Report {
	s.t.Helper()
	r, code := s.audit()
	if code != 0 || !r.Balanced || len(r.Findings) > 0 {
		s.t.Fatalf("%s: exit %d: %s", when, code, show(r))
	}
	return r
}

func show(r *audit.Report) string {
	text, _ := json.MarshalIndent(r, "", " ")
	return string(text)
}

// documents are a tenant for each fate of mail. What goes to pool "nobody"
// stays in its queue.
func (s *site) documents(again string) string {
	s.t.Helper()
	var b strings.Builder
	for _, name := range []string{"fine", "later", "held", "kept", "bad"} {
		pool := "default"
		if name == "kept" {
			pool = "nobody"
		}
		fmt.Fprintf(&b, `kind: queue
name: %[1]s
pool: %[2]s
schedule: {steps: [%[4]s]}
---
kind: tenant
name: %[1]s
domains: [%[1]s.example]
---
kind: route
name: %[1]s
match: {domain: %[1]s.example}
via: smtp://mx.sink.example:%[3]d
---
`, name, pool, s.sink.Port(), again)
	}
	b.WriteString("kind: tenant\nname: senders\ndomains: [client.example]\nqueue: fine\n---\n" +
		fmt.Sprintf("kind: route\nname: senders\nmatch: {domain: client.example}\nvia: smtp://mx.sink.example:%d\n", s.sink.Port()))
	file := filepath.Join(s.Work, "directory.yaml")
	must(s.t, os.WriteFile(file, []byte(b.String()), 0o644))
	return file
}

// send hands in a mail and returns its id.
func (s *site) send(to string) string {
	s.t.Helper()
	id, err := rig.Hand(s.SMTP, rig.Message{
		From: "sender@client.example", To: to, Content: []byte("Subject: x\r\n\r\nx\r\n"),
	}, os.Stderr)
	must(s.t, err)
	return id
}

// stop ends a role's process.
func (s *site) stop(role string) {
	s.t.Helper()
	must(s.t, s.Signal(role, syscall.SIGTERM))
}

// until waits for an audit that a condition holds for.
func (s *site) until(what string, ok func(*audit.Report) bool) *audit.Report {
	s.t.Helper()
	deadline := time.Now().Add(rig.Patience)
	for {
		r := s.balanced("until " + what)
		if ok(r) {
			return r
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not %s after %v: %s", what, rig.Patience, show(r))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// at finds the unfinished record of a message on a topic; for the deadletter
// topic any of its id.
func (s *site) at(topic, id string) bus.Record {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
	defer cancel()
	var found []bus.Record
	must(s.t, s.bus.Read(ctx, []string{topic}, bus.Start{}, func(r bus.Record) error {
		if slices.ContainsFunc(r.Headers, func(h bus.Header) bool { return h.Key == bus.HeaderID && string(h.Value) == id }) ||
			strings.Contains(string(r.Value), id) {
			found = append(found, r)
		}
		return nil
	}))
	if len(found) != 1 {
		s.t.Fatalf("%d records of %s on %s", len(found), id, topic)
	}
	return found[0]
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
