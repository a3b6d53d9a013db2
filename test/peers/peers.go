// Package peers starts real mail servers and clients for tests: Postfix,
// Dovecot's LMTP server, clamd, rspamd, c-icap, milters, an S3 server, swaks, msmtp, gsasl and smtp-source. Each keeps its
// files in a folder of its own, listens on loopback and ends with the test.
//
// The suites that use it run when QSTREAM_TEST_PEERS=1 (see test/run, which
// has the packages installed); Postfix needs root.
package peers

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qstream/test/port"
)

// Need skips the test unless real peers were asked for.
func Need(t testing.TB) {
	t.Helper()
	if os.Getenv("QSTREAM_TEST_PEERS") == "" {
		t.Skip("needs Postfix, Dovecot, swaks, msmtp, gsasl, clamd, rspamd, opendkim, python3-milter, c-icap, kcat, confluent-kafka, moto and versitygw: set QSTREAM_TEST_PEERS=1 where they are installed, as root")
	}
}

// folder is a new one that every user may enter: servers drop their rights.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "qstream-peer-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func freePort(t testing.TB) int {
	t.Helper()
	p, err := port.Free()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs a command to its end and returns what it printed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := try(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	c := exec.CommandContext(ctx, name, args...)
	c.Stdout, c.Stderr = &out, &out
	c.WaitDelay = time.Second
	err := c.Run()
	return out.String(), err
}

// greeted waits until a server says 220: a connection alone proves nothing.
func greeted(t testing.TB, network, addr, log string) {
	t.Helper()
	var last error
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if last = greeting(network, addr); last == nil {
			return
		}
	}
	text, _ := os.ReadFile(log)
	t.Fatalf("no greeting from %s: %v\n%s", addr, last, text)
}

func greeting(network, addr string) error {
	c, err := net.DialTimeout(network, addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	buf := make([]byte, 512)
	n, err := c.Read(buf)
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(buf[:n], []byte("220")) {
		return fmt.Errorf("greeted by %q", buf[:n])
	}
	_, err = c.Write([]byte("QUIT\r\n"))
	return err
}

// mails reads every file of a Maildir's new and cur.
func mails(t testing.TB, maildir string) []string {
	t.Helper()
	var all []string
	for _, sub := range []string{"new", "cur"} {
		names, err := filepath.Glob(filepath.Join(maildir, sub, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if os.IsNotExist(err) {
				continue // moved meanwhile; the caller looks again
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(b))
		}
	}
	return all
}

// Swaks runs swaks against addr and returns what it printed and its exit code:
// 0 if a recipient was taken, 24 if none was.
func Swaks(t testing.TB, addr string, args ...string) (string, int) {
	t.Helper()
	out, err := try("swaks", append([]string{"--server", addr}, args...)...)
	if err == nil {
		return out, 0
	}
	if e, ok := err.(*exec.ExitError); ok && e.ExitCode() > 0 {
		return out, e.ExitCode()
	}
	t.Fatalf("swaks: %v\n%s", err, out)
	return "", 0
}

// Source runs Postfix's smtp-source: count mails of size bytes over sessions
// connections. It fails the test unless all were taken.
func Source(t testing.TB, addr string, sessions, count, size int, from, to string) {
	t.Helper()
	run(t, "smtp-source", "-s", fmt.Sprint(sessions), "-m", fmt.Sprint(count), "-l", fmt.Sprint(size),
		"-f", from, "-t", to, addr)
}
