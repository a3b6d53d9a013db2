// Package up runs "qstream up" and the single roles as their users do: the
// built binary in processes of its own, driven by its verbs.
//
// Its tests run on the embedded broker without settings, and with
// QSTREAM_TEST_KAFKA on a cluster with as many brokers as it names.
package up

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"qstream/test/kafka"
)

// patience is how long a test waits for what must come.
const patience = 60 * time.Second

var build = sync.OnceValues(func() (string, error) {
	root, err := kafka.Root()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "qstream-e2e-")
	if err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "qstream")
	cmd := exec.Command("go", "build", "-o", binary, "./cmd/qstream")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return binary, nil
})

// binary is the qstream that is tested, built once per test process.
func binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatalf("build qstream: %v", err)
	}
	return path
}

// brokers is how many Kafka brokers the scenarios run on; 0: the embedded one.
func brokers() int {
	seeds := os.Getenv("QSTREAM_TEST_KAFKA")
	if seeds == "" {
		return 0
	}
	return len(strings.Split(seeds, ","))
}

// cluster starts Kafka for one test, so that tests don't meet each other's
// topics.
func cluster(t testing.TB, n int) *kafka.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	c, err := kafka.Start(ctx, kafka.Options{Brokers: n})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// System is an up with its data directory.
type System struct {
	t     testing.TB
	Dir   string // --data
	Kafka *kafka.Cluster
	flags []string
	up    *Process
}

// Running is DIR/run.json.
type Running struct {
	PID  int    `json:"pid"`
	SMTP string `json:"smtp"`
	HTTP string `json:"http"`
}

// NewSystem prepares a system on the broker that the settings ask for; Up
// starts it. Flags are added to those of up.
func NewSystem(t testing.TB, flags ...string) *System {
	t.Helper()
	s := &System{t: t, Dir: filepath.Join(t.TempDir(), "data"), flags: flags}
	if n := brokers(); n > 0 {
		s.Kafka = cluster(t, n)
		s.flags = append(s.flags, "--kafka", strings.Join(s.Kafka.Seeds(), ","))
	}
	return s
}

// Up starts the system and returns once it has announced itself.
func (s *System) Up(flags ...string) Running {
	s.t.Helper()
	_ = os.Remove(filepath.Join(s.Dir, "run.json")) // of one that was killed
	args := append([]string{"up", "--data", s.Dir, "--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0"}, s.flags...)
	s.up = Start(s.t, nil, append(args, flags...)...)
	var r Running
	s.up.Await("run.json", func() bool {
		text, err := os.ReadFile(filepath.Join(s.Dir, "run.json"))
		return err == nil && json.Unmarshal(text, &r) == nil
	})
	return r
}

// Stop ends up by SIGTERM and checks that it ended well.
func (s *System) Stop() {
	s.t.Helper()
	if err := s.up.Stop(); err != nil {
		s.t.Fatalf("up ended badly: %v\n%s", err, s.up.Output())
	}
}

// Kill ends up as a crash would.
func (s *System) Kill() { s.up.Kill() }

// Output is what up has written so far.
func (s *System) Output() string { return s.up.Output() }

// Do runs a verb on the system and returns what it printed; the test ends if
// it fails.
func (s *System) Do(args ...string) string {
	s.t.Helper()
	out, errs, code := Run(s.t, append(args, "--data", s.Dir)...)
	if code != 0 {
		s.t.Fatalf("qstream %s: exit %d\n%s%s", strings.Join(args, " "), code, out, errs)
	}
	return strings.TrimSpace(out)
}

// Send submits a sample and returns its message id.
func (s *System) Send(from string, to ...string) string {
	s.t.Helper()
	return s.Do("send", "--from", from, "--to", strings.Join(to, ","))
}

// Apply applies documents.
func (s *System) Apply(documents string) string {
	s.t.Helper()
	file := filepath.Join(s.t.TempDir(), "directory.yaml")
	if err := os.WriteFile(file, []byte(documents), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return s.Do("apply", file)
}

// Inbox waits until a Maildir holds n messages and returns their contents.
func (s *System) Inbox(folder string, n int) []string {
	s.t.Helper()
	var files []string
	s.up.Await(folder, func() bool {
		files, _ = filepath.Glob(filepath.Join(folder, "new", "*"))
		return len(files) >= n
	})
	if len(files) > n {
		s.t.Fatalf("%d messages in %s, want %d", len(files), folder, n)
	}
	var contents []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			s.t.Fatal(err)
		}
		contents = append(contents, string(text))
	}
	return contents
}

// Run runs the binary to its end.
func Run(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, binary(t), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("run qstream: %v", err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
