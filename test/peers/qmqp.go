package peers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// QMQPSource runs Postfix's qmqp-source as Source does smtp-source.
func QMQPSource(t testing.TB, addr string, sessions, count, size int, from, to string) {
	t.Helper()
	run(t, "qmqp-source", "-s", strconv.Itoa(sessions), "-m", strconv.Itoa(count), "-l", strconv.Itoa(size), "-f", from, "-t", to, addr)
}

// StartQMQPSink starts Postfix's qmqp-sink, which answers K and keeps nothing,
// and returns its port.
func StartQMQPSink(t testing.TB) int {
	t.Helper()
	port := freePort(t)
	c := exec.Command("qmqp-sink", fmt.Sprintf("127.0.0.1:%d", port), "100")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn.Close()
			return port
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// Nullmailer hands a mail to addr by nullmailer's QMQP client, and returns
// what it printed. The package conflicts with Postfix's, so its program lies
// beside the tools (.ci/install peers), or is named by QSTREAM_NULLMAILER_QMQP.
func Nullmailer(t testing.TB, addr, from string, to []string, text string) (string, error) {
	t.Helper()
	program := os.Getenv("QSTREAM_NULLMAILER_QMQP")
	if program == "" {
		program = "../.cache/nullmailer/usr/lib/nullmailer/qmqp"
	}
	if _, err := os.Stat(program); err != nil {
		t.Skip("needs nullmailer's QMQP client: .ci/install peers, or QSTREAM_NULLMAILER_QMQP=PATH")
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	mail := filepath.Join(t.TempDir(), "mail")
	if err := os.WriteFile(mail, []byte(from+"\n"+strings.Join(to, "\n")+"\n\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(mail)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, program, "--host="+host, "--port="+port)
	c.ExtraFiles = []*os.File{in} // it reads the mail from 3, and options from 0
	out, err := c.CombinedOutput()
	return string(out), err
}
