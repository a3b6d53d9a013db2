package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"strings"

	"qstream/cmd/qstream/internal/sendmail"
	"qstream/transport/handover"
)

// sendmailCmd is the command that programs call to send mail. All that follows
// the verb is its own; where mail goes is told by QSTREAM_SERVERS,
// QSTREAM_CONTROL, QSTREAM_DATA, QSTREAM_API and QSTREAM_SMTP.
type sendmailCmd struct {
	Args []string `arg:"" optional:""`
}

// sendmailHelp is the verb's --help: the options are the program's, and none
// of ours.
const sendmailHelp = `Usage: qstream sendmail [options] [recipient ...]

Hand a message over as the program of that name does: content on standard
input, by QMQP to the servers that are listed, or to a running up.

Options:
  -t              Recipients are those of To, Cc and Bcc; others are added.
  -f, -r ADDRESS  Reverse-path.
  -F NAME         Full name in the From that is added where there is none.
  -i, -oi         A line with a dot alone doesn't end the message.
  -bm             Hand over a message (default).
  -bs             SMTP on standard input and output, with the edge.
  -bp             Print what waits; also as: mailq
  -bi, -q         Nothing is to do.

Environment:
  QSTREAM_SERVERS  QMQP servers, HOST:PORT, by commas.
  QSTREAM_CONTROL  Where qmqpservers, me and defaulthost are (default:
                   /var/qmail/control).
  QSTREAM_DATA     Data directory of a running up (default: qstream-data).
  QSTREAM_API      HTTP address of a running up, or of a ledger for -bp.
  QSTREAM_SMTP     The edge that -bs talks to.

Exit codes are those of sysexits.h; see docs/receiving.md.
`

func (c *sendmailCmd) Run(ctx context.Context, p *Process) error {
	if len(c.Args) == 1 && c.Args[0] == "--help" {
		_, err := fmt.Fprint(p.Stdout, sendmailHelp)
		return err
	}
	r, err := sendmail.Parse(c.Args)
	if err != nil {
		return failure{fmt.Errorf("sendmail: %w", err), sendmail.Usage}
	}
	place := Place{Data: os.Getenv("QSTREAM_DATA"), API: os.Getenv("QSTREAM_API")}
	switch r.Mode {
	case sendmail.Nothing:
		return nil
	case sendmail.List:
		return sysexit(listQueue(ctx, p, &place))
	case sendmail.Serve:
		return sysexit(serveSMTP(ctx, p, &place))
	}
	return sysexit(c.deliver(ctx, p, r, &place))
}

// listQueue prints what waits, by queue and destination. That nothing does is
// no failure of mailq.
func listQueue(ctx context.Context, p *Process, place *Place) error {
	list := queueListCmd{Place: *place, By: []string{"queue", "destination"}, legFlags: legFlags{Limit: 1000}, waiting: true}
	err := list.Run(ctx, p)
	if f := (failure{}); errors.As(err, &f) && f.code == exitNotFound {
		_, err = fmt.Fprintln(p.Stdout, "Mail queue is empty")
	}
	return err
}

// deliver hands the message on standard input over by QMQP.
func (c *sendmailCmd) deliver(ctx context.Context, p *Process, r sendmail.Request, place *Place) error {
	flags := handoverFlags{Control: "/var/qmail/control"}
	if s := os.Getenv("QSTREAM_CONTROL"); s != "" {
		flags.Control = s
	}
	if s := os.Getenv("QSTREAM_SERVERS"); s != "" {
		flags.Servers = strings.Split(s, ",")
	}
	cfg, err := flags.config(p)
	if err != nil {
		return err
	}
	if cfg, err = orRunning(ctx, cfg, place); err != nil {
		return err
	}
	id, err := identity(p, flags.Control)
	if err != nil {
		return err
	}
	m, err := r.Compose(p.Stdin, id)
	switch {
	case sendmail.BadData(err):
		return failure{fmt.Errorf("sendmail: %w", err), sendmail.DataError}
	case err != nil:
		return failure{fmt.Errorf("sendmail: %w", err), sendmail.IOError}
	}
	content, err := handover.Read(m.Content)
	if err != nil {
		return err
	}
	defer content.Close()
	return handover.Send(ctx, cfg, handover.Message{Content: content, ReversePath: m.ReversePath, Recipients: m.Recipients})
}

// identity is the caller's, with qmail's defaulthost or me as the host's name.
func identity(p *Process, control string) (id sendmail.Identity, err error) {
	id.Now = p.Now()
	for _, name := range []string{"defaulthost", "me"} {
		text, err := os.ReadFile(control + "/" + name)
		if line, _, _ := strings.Cut(string(text), "\n"); err == nil && strings.TrimSpace(line) != "" {
			id.Host = strings.TrimSpace(line)
			break
		}
	}
	if id.Host == "" {
		if id.Host, err = os.Hostname(); err != nil {
			return id, fmt.Errorf("host name: %w", err)
		}
	}
	if u, err := user.Current(); err == nil {
		id.User = u.Username
		id.FullName, _, _ = strings.Cut(u.Name, ",")
	}
	for _, name := range []string{"LOGNAME", "USER"} {
		if v := os.Getenv(name); id.User == "" && v != "" {
			id.User = v
		}
	}
	if id.User == "" {
		id.User = "anonymous"
	}
	return id, nil
}

// sysexit gives an error its code of sysexits(3).
func sysexit(err error) error {
	var known failure
	var f *handover.Failure
	code := sendmail.TempFail
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		if known.code != handover.CodeConfig {
			return err
		}
		code = sendmail.ConfigError
	case errors.As(err, &f) && f.Code == handover.CodeAddress:
		code = sendmail.DataError
	case errors.As(err, &f) && f.Permanent():
		code = sendmail.Unavailable
	case errors.As(err, &f) && f.Code == handover.CodeRead:
		code = sendmail.IOError
	}
	return failure{fmt.Errorf("sendmail: %w", err), code}
}

// serveSMTP connects standard input and output with the edge's SMTP service,
// which sees this host as its client.
func serveSMTP(ctx context.Context, p *Process, place *Place) error {
	addr := os.Getenv("QSTREAM_SMTP")
	if addr == "" {
		running, err := place.Find(ctx)
		if err != nil {
			return failure{fmt.Errorf("QSTREAM_SMTP names no server, and %w", err), handover.CodeConfig}
		}
		if addr = running.SMTP; addr == "" {
			return failure{errors.New("the running system tells of no SMTP listener: name one by QSTREAM_SMTP"), handover.CodeConfig}
		}
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	go func() {
		_, _ = io.Copy(conn, p.Stdin)
		_ = conn.(*net.TCPConn).CloseWrite() // the server answers what it has heard
	}()
	if _, err := io.Copy(p.Stdout, conn); err != nil {
		return fmt.Errorf("talk to %s: %w", addr, err)
	}
	return nil
}
