package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qstream/transport/smtp"
)

// What a postmaster sets, by flags or in a file, reaches edge and clients.
func TestLimitsAreSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "settings.yaml")
	text := "max-line: 4000\ndeliver:\n  attempts: 50\n  delay-after: 1h\n  no-starttls: true\n  send-rate: 100\n  max-hosts: 2\nup:\n  dot-timeout: 2m\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	parse := func(args ...string) *CLI {
		var cli CLI
		parser, err := newParser(&cli, &Process{Stdout: io.Discard, Stderr: io.Discard}, func(int) {})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(append([]string{"--config", file}, args...)); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		return &cli
	}
	edge, up := parse("ingest").Ingest, parse("up", "--max-line=-1", "--reuse=-1s").Up
	deliver := parse("deliver", "--connect-timeout", "1s", "--greeting-timeout", "2s", "--reply-timeout", "3s", "--dot-timeout", "4s").Deliver
	if got := edge.config().MaxLine; got != 4000 {
		t.Errorf("ingest takes lines of %d", got)
	}
	if got := up.ingestFlags.config().MaxLine; got != -1 {
		t.Errorf("up takes lines of %d", got)
	}
	want := smtp.Config{NoTLS: true, MinRate: 100, MaxHosts: 2, Timeouts: smtp.Timeouts{
		Connect: time.Second, Greeting: 2 * time.Second, Command: 3 * time.Second, Dot: 4 * time.Second}}
	if diff := cmp.Diff(want, deliver.sendFlags.config()); diff != "" {
		t.Error(diff)
	}
	if got := deliver.deliverFlags.config(); got.Scheduler.Slots != 50 || got.DelayAfter != time.Hour {
		t.Errorf("%+v", got)
	}
	if got := up.sendFlags.config(); got.Idle != -time.Second || got.Timeouts.Dot != 2*time.Minute {
		t.Errorf("up: %+v", got)
	}
}
