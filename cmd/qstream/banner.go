package main

import (
	"fmt"
	"io"
	"os"
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
	for _, one := range [][2]string{{"submit", r.Submission}, {"submits", r.Submissions}, {"post", r.HTTPSubmission}, {"QMQP", r.QMQP}, {"QMTP", r.QMTP}, {"QMTPS", r.QMTPS}} {
		if one[1] != "" {
			line(one[0], "%s", one[1])
		}
	}
	if r.HTTP != "" {
		line("HTTP", "http://%s (healthz, readyz, metrics, POST /v1/messages)", r.HTTP)
	}
	line("data", "%s", r.Data)
	if r.Embedded {
		line("broker", "embedded, %s: a single copy on this disk, for trying out and for small sites", r.Kafka[0])
	} else {
		line("broker", "%s", strings.Join(r.Kafka, ", "))
	}
	line("directory", "number %d: %s", s.Number, holds(s))
	for _, copied := range c.copies(s) {
		line(copied[0], "%s", copied[1])
	}
	if inbox := filepath.Join(r.Data, "inbox"); delivers(s, inbox) {
		line("inbox", "%s: all mail ends here, nothing goes to the Internet", inbox)
	}
	at := ""
	self := command(os.Args[0])
	if r.Data != defaultPath() {
		at = " --data " + shellQuote(r.Data)
	}
	fmt.Fprintf(&b, "\nTry in another terminal:\n\n"+
		"  %[1]s send%[2]s --from ann@sender.example --to bob@acme.example\n"+
		"  %[1]s trace%[2]s MESSAGE-ID\n"+
		"  %[1]s tail%[2]s events\n\nctrl-c stops; nothing is lost.\n", self, at)
	_, err := io.WriteString(w, b.String())
	return err
}

// copies are what is kept beside the way of mail, copies and proofs: each with
// its name.
func (c *upCmd) copies(s *directory.Snapshot) (lines [][2]string) {
	add := func(name, format string, args ...any) {
		lines = append(lines, [2]string{name, fmt.Sprintf(format, args...)})
	}
	archives := s.Archives()
	for i, a := range archives {
		if i == mostArchives {
			add("", "and %d more: qstream tap archive list", len(archives)-i)
			break
		}
		add("archive", "%s, to %s", a.Name, shown(a.Sink.String()))
	}
	if c.CheckpointKey != "" {
		add("custody", "a chain over the log, signed by the key in %s", c.CheckpointKey)
	}
	if c.Vault != "" {
		add("vault", "%s, lawful taps: its records are the same with and without orders", c.Vault)
	}
	return lines
}

// mostArchives bounds what the banner names.
const mostArchives = 5

// command is how this program was called, for a shell: by a path, from the
// search path, or by "go run", which puts it into a folder of its own.
func command(arg0 string) string {
	switch {
	case strings.Contains(arg0, string(filepath.Separator)+"go-build"):
		return "go run ./cmd/qstream"
	case strings.ContainsRune(arg0, filepath.Separator):
		return shellQuote(arg0)
	}
	return "qstream"
}

// holds counts the directory's documents, as get shows them.
func holds(s *directory.Snapshot) string {
	count := map[string]int{}
	for _, d := range s.Documents() {
		count[d.Ref.Kind]++
	}
	var parts []string
	for _, kind := range []string{"tenant", "queue", "route"} {
		plural := "s"
		if count[kind] == 1 {
			plural = ""
		}
		parts = append(parts, fmt.Sprintf("%d %s%s", count[kind], kind, plural))
	}
	return strings.Join(parts, ", ")
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
