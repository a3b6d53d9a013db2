package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"qstream/directory"
)

// banner says what is open, where the data is and what to do next.
func (c *upCmd) banner(w io.Writer, r Running, s *directory.Snapshot) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "  %-10s%s\n", name, fmt.Sprintf(format, args...))
	}
	fmt.Fprintf(&b, "qstream %s is up.\n\n", version())
	line("SMTP", "%s", r.SMTP)
	if r.HTTP != "" {
		line("HTTP", "http://%s (healthz, readyz, metrics)", r.HTTP)
	}
	line("data", "%s", r.Data)
	if r.Embedded {
		line("broker", "embedded, %s: a single copy on this disk, for trying out and for small sites", r.Kafka[0])
	} else {
		line("broker", "%s", strings.Join(r.Kafka, ", "))
	}
	line("directory", "number %d: %d tenants, %d queues", s.Number, len(s.Tenants()), len(s.Queues()))
	if inbox := filepath.Join(r.Data, "inbox"); delivers(s, inbox) {
		line("inbox", "%s: all mail ends here, nothing goes to the Internet", inbox)
	}
	if c.QMQP+c.QMTP != "" {
		line("note", "QMQP and QMTP are not served yet")
	}
	at := ""
	if r.Data != defaultPath() {
		at = " --data " + shellQuote(r.Data)
	}
	fmt.Fprintf(&b, "\nTry in another terminal:\n\n"+
		"  qstream send%s --from ann@sender.example --to bob@acme.example\n"+
		"  qstream trace%s MESSAGE-ID\n"+
		"  qstream tail%s qstream.events.v1\n\nctrl-c stops; nothing is lost.\n", at, at, at)
	_, err := io.WriteString(w, b.String())
	return err
}

// delivers reports whether a route leads to the folder.
func delivers(s *directory.Snapshot, folder string) bool {
	d := s.Decide(directory.Question{Recipient: "postmaster@acme.example"})
	return d.Via.Path == folder
}

func defaultPath() string {
	path, err := filepath.Abs(defaultData)
	if err != nil {
		return ""
	}
	return path
}

// shellQuote makes a path one word for a shell.
func shellQuote(path string) string {
	if strings.Trim(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
