package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
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
		{"check", exitDone},
		{"check router --kafka 127.0.0.1:9", exitDone},
		{"check router", exitUsage},
		{"check version", exitUsage},
		{"check up --kafka-ca nowhere.pem", exitUsage},
		{"check up --apply nowhere.yaml", exitUsage},
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
		{fmt.Errorf("message x: %w", ErrNotFound), exitNotFound},
		{fmt.Errorf("--a with --b: %w", ErrUsage), exitUsage},
	} {
		if got := report(&bytes.Buffer{}, c.err); got != c.want {
			t.Errorf("%v: exit %d, want %d", c.err, got, c.want)
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
