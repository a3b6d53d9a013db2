package kafka

import (
	"context"
	"net"
	"os"
	"testing"
	"time"
)

// TestCluster starts three brokers, and kills, freezes and restarts one.
func TestCluster(t *testing.T) {
	if os.Getenv("QSTREAM_TEST_KAFKA") == "" {
		t.Skip("skipped: starts Apache Kafka; set QSTREAM_TEST_KAFKA to run it")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	c, err := Start(ctx, Options{Brokers: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(c.dir); !os.IsNotExist(err) {
			t.Errorf("the temporary folder is still there: %v", err)
		}
	}()
	if n := len(c.Seeds()); n != 3 {
		t.Fatalf("%d seeds, want 3", n)
	}
	victim := c.Brokers[1]
	for _, step := range []struct {
		name    string
		do      func() error
		accepts bool
	}{
		{"start", func() error { return nil }, true},
		{"freeze", victim.Freeze, true}, // the kernel still accepts
		{"thaw", victim.Thaw, true},
		{"kill", victim.Kill, false},
		{"kill again", victim.Kill, false},
		{"restart", func() error { return victim.Start(ctx) }, true},
		{"stop", victim.Stop, false},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		conn, err := net.DialTimeout("tcp", victim.Addr, time.Second)
		if (err == nil) != step.accepts {
			t.Errorf("after %s: dial %v, want accepted: %v", step.name, err, step.accepts)
		}
		if err == nil {
			conn.Close()
		}
		if running := victim.PID() != 0; running != step.accepts {
			t.Errorf("after %s: running %v, want %v", step.name, running, step.accepts)
		}
	}
}
