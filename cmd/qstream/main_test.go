package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
)

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		args string
		want int
	}{
		{"version", exitDone},
		{"--help", exitDone},
		{"", exitUsage},
		{"nonsense", exitUsage},
		{"version --nonsense", exitUsage},
		{"router", exitUsage}, // nobody said where the brokers are
		{"up --max-data 1000", exitUsage},
		{"check", exitDone},
		{"check router --kafka 127.0.0.1:9", exitDone},
		{"check router", exitUsage},
		{"check version", exitUsage},
		{"check up --kafka-ca nowhere.pem", exitUsage},
		{"check up --apply nowhere.yaml", exitUsage},
		{"sendmail --help", exitDone},
		{"explain route", exitUsage},
		{"explain connection nowhere", exitUsage},
		{"scan replay --since 1h --until 2h --reason late --kafka 127.0.0.1:9", exitUsage},
		{"check deliver --kafka 127.0.0.1:9 --drain 5", exitUsage}, // seconds? minutes?
		{"check deliver --kafka 127.0.0.1:9 --drain 1m --delay-after 1d --reuse=-1s", exitDone},
		{"send --from a@acme.example --to b@acme.example --data /nonexistent", exitFailed},
	} {
		var out, errs bytes.Buffer
		if got := run(strings.Fields(c.args), nil, &out, &errs); got != c.want {
			t.Errorf("qstream %s: exit %d, want %d\n%s%s", c.args, got, c.want, &out, &errs)
		}
	}
}

func TestReport(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, exitDone},
		{fmt.Errorf("broker: gone"), exitFailed},
		{notFoundf("message x"), exitNotFound},
		{usagef("--a with --b"), exitUsage},
	} {
		var said bytes.Buffer
		if got := report(&said, c.err); got != c.want {
			t.Errorf("%v: exit %d, want %d", c.err, got, c.want)
		}
		if c.err != nil && said.String() != "qstream: "+c.err.Error()+"\n" {
			t.Errorf("said %q of %v", &said, c.err)
		}
	}
}

func TestFailpoint(t *testing.T) {
	died := 0
	pass, err := failpoints("txn.begin:2", func() { died++ })
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"txn.begin", "txn.ended", "txn.begin", "txn.begin"} {
		pass(name)
	}
	if died != 1 {
		t.Errorf("died %d times, want once", died)
	}
	for _, bad := range []string{"a:0", "a:x", "a:"} {
		if _, err := failpoints(bad, nil); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

// What one call shall do is no setting: a variable or a key left behind would
// do it again.
func TestSettingsOnly(t *testing.T) {
	t.Setenv("QSTREAM_PRUNE", "true")
	t.Setenv("QSTREAM_SMTP", "192.0.2.1:25")
	parse := func(args ...string) (*CLI, error) {
		cli := &CLI{}
		parser, err := newParser(cli, &Process{Stdout: io.Discard, Stderr: io.Discard}, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		_, err = parser.Parse(args)
		return cli, err
	}
	if cli, err := parse("apply", "site.yaml"); err != nil || cli.Apply.Prune {
		t.Errorf("prune %v, error %v: taken from the environment", cli.Apply.Prune, err)
	}
	if cli, err := parse("ingest"); err != nil || cli.Ingest.SMTP != "192.0.2.1:25" {
		t.Errorf("smtp %q, error %v: not taken from the environment", cli.Ingest.SMTP, err)
	}
	file := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(file, []byte("prune: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := parse("apply", "site.yaml", "--config", file); err == nil || !strings.Contains(err.Error(), `unknown setting "prune"`) {
		t.Errorf("prune in a file: error %v", err)
	}
}

// A port that another process has is told at once and before the banner.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	for flag, args := range map[string][]string{
		"smtp": {"--smtp", addr, "--http", ""},
		"http": {"--smtp", "127.0.0.1:0", "--http", addr},
		"qmqp": {"--smtp", "127.0.0.1:0", "--http", "", "--qmqp", addr},
	} {
		var out, errs bytes.Buffer
		code := run(append([]string{"up", "--data", t.TempDir(), "--qmqp", "", "--qmtp", ""}, args...), nil, &out, &errs)
		if code != exitFailed || out.Len() > 0 || !strings.Contains(errs.String(), "choose another") {
			t.Errorf("--%s taken: exit %d\n%s%s", flag, code, &out, &errs)
		}
	}
}

func TestCommand(t *testing.T) {
	for arg0, want := range map[string]string{
		"qstream":                          "qstream",
		"bin/qstream":                      "bin/qstream",
		"/opt/a b/qs":                      "'/opt/a b/qs'",
		"/tmp/go-build17/b001/exe/qstream": "go run ./cmd/qstream",
	} {
		if got := command(arg0); got != want {
			t.Errorf("%s: %s, want %s", arg0, got, want)
		}
	}
}

func TestClockOffset(t *testing.T) {
	now, err := clock("240h")
	if err != nil {
		t.Fatal(err)
	}
	if ahead := time.Until(now()); ahead < 239*time.Hour || ahead > 241*time.Hour {
		t.Errorf("clock is %v ahead, want 240h", ahead)
	}
	if _, err := clock("ten days"); err == nil {
		t.Error("nonsense accepted")
	}
}

type settingsCLI struct {
	One verbFlags `cmd:""`
	Two verbFlags `cmd:""`
}

type verbFlags struct {
	Kafka []string
	HTTP  string `name:"http" default:"built-in"`
}

func TestSettings(t *testing.T) {
	const file = "kafka: [a:1, b:2]\nhttp: all\ntwo:\n  http: of-two\n"
	for _, c := range []struct {
		name, file, args string
		env              string
		kafka, http      string
		fault            string
	}{
		{name: "defaults", file: "", args: "one", http: "built-in"},
		{name: "file", file: file, args: "one", kafka: "a:1 b:2", http: "all"},
		{name: "verb's own key wins", file: file, args: "two", kafka: "a:1 b:2", http: "of-two"},
		{name: "environment wins over the file", file: file, args: "two", env: "env", kafka: "a:1 b:2", http: "env"},
		{name: "flag wins over all", file: file, args: "two --http flag", env: "env", kafka: "a:1 b:2", http: "flag"},
		{name: "a number where a text belongs", file: "http: 8025\n", args: "one", http: "8025"},
		{name: "unknown key", file: "kafka: [a:1]\nhtpp: x\n", args: "one", fault: `settings:2: unknown setting "htpp"`},
		{name: "unknown verb", file: "three:\n  http: x\n", args: "one", fault: `settings:2: unknown verb "three"`},
		{name: "unknown key of a verb", file: "one:\n  smtp: x\n", args: "one", fault: `settings:2: unknown setting "smtp" of one`},
		{name: "too deep", file: "one:\n  http:\n    a: b\n", args: "one", fault: "settings:2: one.http: a setting has no keys of its own"},
		{name: "no mapping", file: "- a\n", args: "one", fault: "settings:1: want keys and values"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.env != "" {
				t.Setenv("TEST_HTTP", c.env)
			}
			var cli settingsCLI
			err := parseWith(&cli, c.file, strings.Fields(c.args))
			if c.fault != "" {
				if err == nil || !strings.Contains(err.Error(), c.fault) {
					t.Fatalf("error %v, want %s", err, c.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := cli.One
			if strings.HasPrefix(c.args, "two") {
				got = cli.Two
			}
			if strings.Join(got.Kafka, " ") != c.kafka || got.HTTP != c.http {
				t.Errorf("got %v %q, want %q %q", got.Kafka, got.HTTP, c.kafka, c.http)
			}
		})
	}
}

func parseWith(cli any, file string, args []string) error {
	resolver, err := loadSettings(strings.NewReader(file))
	if err != nil {
		return err
	}
	parser, err := kong.New(cli, kong.DefaultEnvars("TEST"), kong.Resolvers(resolver))
	if err != nil {
		return err
	}
	_, err = parser.Parse(args)
	return err
}

// Settings of processes have the units of the directory; what Go writes
// stands, a number without a unit doesn't.
func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"45s": 45 * time.Second, "1d": 24 * time.Hour, "1h30m": 90 * time.Minute,
		"-1s": -time.Second, "250ms": 250 * time.Millisecond, "1.5h": 90 * time.Minute,
		"5": 0, "": 0, "-5": 0, "0": 0, "soon": 0, "5m5": 0,
	} {
		cli := &CLI{}
		parser, err := newParser(cli, &Process{Stdout: io.Discard, Stderr: io.Discard}, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		_, err = parser.Parse([]string{"deliver", "--reuse=" + text})
		if (err != nil) != (want == 0) || cli.Deliver.Reuse != want {
			t.Errorf("%q: %v, error %v, want %v", text, cli.Deliver.Reuse, err, want)
		}
	}
}

// Who gives up waiting for a broker because he was stopped doesn't say that
// he waited his whole time.
func TestAwaitStopped(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	p := &Process{Log: slog.New(slog.DiscardHandler), Now: time.Now, Failpoint: func(string) {}}
	s, err := newShell(p, bus.Config{Seeds: []string{"127.0.0.1:9"}}, "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	stop()
	if err := s.await(ctx); err == nil || !strings.Contains(err.Error(), "stopped before") {
		t.Errorf("error %v", err)
	}
}

// A role that starts while the brokers choose leaders waits; one that isn't
// allowed to look doesn't.
func TestVerifyWhileLeadersMove(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(*bustest.Broker) *atomic.Int32
		want  string // in the error; "": none
	}{
		"leaders move":  {func(b *bustest.Broker) *atomic.Int32 { return b.MoveLeaders(2) }, ""},
		"not permitted": {func(b *bustest.Broker) *atomic.Int32 { return b.Forbid(1) }, "TOPIC_AUTHORIZATION_FAILED"},
	} {
		b := bustest.Start(t)
		left := c.fault(b)
		p := &Process{Log: slog.New(slog.DiscardHandler), Now: time.Now, Failpoint: func(string) {}}
		s, err := newShell(p, bus.Config{Seeds: b.Seeds}, "")
		if err != nil {
			t.Fatal(err)
		}
		defer s.close()
		err = s.verify(t.Context(), schemas.FixedTopics())
		switch {
		case left.Load() > 0:
			t.Errorf("%s: not asked for, so that nothing is shown", name)
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
}

func TestInterrupted(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	asked := fmt.Errorf("read the directory: %w", context.Canceled)
	if got := interrupted(ctx, asked); got != asked {
		t.Errorf("nobody stopped it: %v", got)
	}
	stop()
	if got := interrupted(ctx, nil); got != nil {
		t.Errorf("done: %v", got)
	}
	if got := interrupted(ctx, io.EOF); got != io.EOF {
		t.Errorf("another reason: %v", got)
	}
	coded := failure{asked, 71}
	got := interrupted(ctx, coded)
	if !strings.Contains(got.Error(), "stopped by a signal") || report(io.Discard, got) != 71 {
		t.Errorf("stopped: %v", got)
	}
}

// Who asks whether a client's mail is scanned hears it also where it is not.
func TestExplainSessionScan(t *testing.T) {
	for name, c := range map[string]struct {
		out  connectionJSON
		want string
	}{
		"engines": {connectionJSON{Action: "allow", Scan: &sessionScanJSON{Policy: "p", Engines: []string{"a", "b"}}}, "by policy p (a, b),"},
		"nobody":  {connectionJSON{Action: "allow", Scan: &sessionScanJSON{Policy: "p"}}, "by policy p (no engines: all passes),"},
		"not":     {connectionJSON{Action: "allow", Variables: map[string]string{"SCANPOLICY": ""}}, "not scanned within the session"},
	} {
		var text bytes.Buffer
		if c.out.print(&text); !strings.Contains(text.String(), c.want) {
			t.Errorf("%s: %s", name, &text)
		}
	}
}
