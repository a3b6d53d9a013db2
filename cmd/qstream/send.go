package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"qstream/mail"
)

// sendCmd submits one message over SMTP, as any client would.
type sendCmd struct {
	Place
	File string   `arg:"" optional:"" help:"Message with header, lines ended by LF or CRLF; - is standard input. Default: a sample."`
	From string   `required:"" placeholder:"ADDRESS" help:"Reverse-path; empty or <> is the null one."`
	To   []string `required:"" placeholder:"ADDRESS" help:"Recipients."`
	SMTP string   `name:"smtp" placeholder:"ADDR" help:"Where to submit (default: where the running up listens)."`
	Size int      `short:"s" help:"Make the sample this many octets long."`
}

func (c *sendCmd) Run(ctx context.Context, p *Process) error {
	addr := c.SMTP
	if addr == "" {
		running, err := c.Find(ctx)
		if err != nil {
			return err
		}
		if addr = running.SMTP; addr == "" {
			return fmt.Errorf("the running system tells of no SMTP listener: name one by --smtp")
		}
	}
	if c.From == "<>" {
		c.From = ""
	}
	content, err := c.content(p)
	if err != nil {
		return err
	}
	s, err := dialSubmission(ctx, addr)
	if err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	defer s.close()
	reply, refused, err := s.submit(c.From, c.To, content)
	for _, r := range refused {
		fmt.Fprintln(p.Stderr, "refused:", mail.Printable(r))
	}
	if err != nil {
		return fmt.Errorf("submit to %s: %w", addr, err)
	}
	id := messageID(reply)
	fmt.Fprintln(p.Stdout, id)
	if len(refused) > 0 {
		return fmt.Errorf("%d of %d recipients were refused", len(refused), len(c.To))
	}
	return nil
}

// messageID finds our id in the reply to the content, or returns the reply of
// a server that gives none.
func messageID(reply string) string {
	for _, word := range strings.Fields(reply) {
		if _, ok := mail.IDTime(word); ok {
			return word
		}
	}
	return mail.Printable(reply)
}

// content is the file's or the sample's, lines ended by CRLF.
func (c *sendCmd) content(p *Process) ([]byte, error) {
	var text []byte
	var err error
	switch c.File {
	case "":
		return c.sample(p), nil
	case "-":
		text, err = io.ReadAll(p.Stdin)
	default:
		text, err = os.ReadFile(c.File)
	}
	if err != nil {
		return nil, fmt.Errorf("read message: %w", err)
	}
	return endLines(text), nil
}

// sample is a small message with an own Message-ID, padded to the asked size.
func (c *sendCmd) sample(p *Process) []byte {
	now := p.Now()
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\r\n", args...) }
	line("From: <%s>", c.From)
	line("To: <%s>", strings.Join(c.To, ">, <"))
	line("Subject: A sample from qstream")
	line("Date: %s", now.Format("Mon, 02 Jan 2006 15:04:05 -0700"))
	line("Message-ID: <%s@sample.qstream>", mail.NewID(now))
	line("MIME-Version: 1.0")
	line("Content-Type: text/plain; charset=utf-8")
	line("")
	line("This message went from a client through Kafka to you.")
	const padding = "................................................................\r\n"
	for b.Len() < c.Size {
		rest := c.Size - b.Len()
		switch {
		case rest >= len(padding)+2 || rest == len(padding):
			b.WriteString(padding)
		case rest > 2:
			b.WriteString(strings.Repeat(".", rest-2) + "\r\n")
		default:
			b.WriteString("\r\n")
		}
	}
	return []byte(b.String())
}

// endLines makes every line end by CRLF, as SMTP wants it.
func endLines(text []byte) []byte {
	out := make([]byte, 0, len(text)+len(text)/32)
	for i, c := range text {
		if c == '\n' && (i == 0 || text[i-1] != '\r') {
			out = append(out, '\r')
		}
		out = append(out, c)
	}
	return out
}
