package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"qstream/engine/wrapper"
	"qstream/transport/handover"
	"qstream/wire"
)

// handoverFlags are where drop-ins hand mail over.
type handoverFlags struct {
	Servers []string      `placeholder:"HOST:PORT" help:"QMQP servers in the order in which they are tried (default: those of qmqpservers in --control)."`
	Control string        `placeholder:"DIR" default:"/var/qmail/control" help:"Where qmqpservers is (default: ${default})."`
	Again   bool          `help:"Go on to the next server also when a connection broke before the answer: mail may be delivered twice."`
	Connect time.Duration `default:"10s" help:"Longest wait for a connection (default: ${default})."`
	IO      time.Duration `name:"io" default:"60s" help:"Longest wait for each read and write (default: ${default})."`
}

// config lists the servers: those named, else of the file.
func (f *handoverFlags) config(p *Process) (handover.Config, error) {
	cfg := handover.Config{Connect: f.Connect, IO: f.IO, Again: f.Again, Tell: func(_ string, why *handover.Failure) {
		fmt.Fprintln(p.Stderr, "qstream:", why.Text)
	}}
	text := strings.Join(f.Servers, "\n")
	if len(f.Servers) == 0 {
		file, err := os.ReadFile(filepath.Join(f.Control, "qmqpservers"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return cfg, failure{fmt.Errorf("read the list of servers: %w", err), handover.CodeConfig}
		}
		text = string(file)
	}
	var err error
	if cfg.Servers, err = handover.ParseServers(text); err != nil {
		return cfg, failure{fmt.Errorf("list of servers: %w", err), handover.CodeConfig}
	}
	return cfg, nil
}

// orRunning takes the QMQP server of a running up if none is listed.
func orRunning(ctx context.Context, cfg handover.Config, place *Place) (handover.Config, error) {
	if len(cfg.Servers) > 0 {
		return cfg, nil
	}
	running, err := place.Find(ctx)
	if err != nil {
		return cfg, failure{fmt.Errorf("no QMQP server is listed, and %w", err), handover.CodeConfig}
	}
	if running.QMQP == "" {
		return cfg, failure{errors.New("the running system serves no QMQP: list servers, or start it with --qmqp"), handover.CodeConfig}
	}
	cfg.Servers = []string{running.QMQP}
	return cfg, nil
}

// qmailQMQPCCmd is qmail-qmqpc.
type qmailQMQPCCmd struct {
	handoverFlags `embed:""`
}

func (c *qmailQMQPCCmd) Run(ctx context.Context, p *Process) error {
	if folder := os.Getenv(wrapper.FolderVariable); folder != "" {
		return collect(p, folder)
	}
	cfg, err := c.config(p)
	if err != nil {
		return err
	}
	return queue(ctx, p, cfg)
}

// qmailQueueCmd is qmail-queue: it knows a running up, too.
type qmailQueueCmd struct {
	Place         `embed:""`
	handoverFlags `embed:""`
}

func (c *qmailQueueCmd) Run(ctx context.Context, p *Process) error {
	if folder := os.Getenv(wrapper.FolderVariable); folder != "" {
		return collect(p, folder)
	}
	cfg, err := c.config(p)
	if err != nil {
		return err
	}
	if cfg, err = orRunning(ctx, cfg, &c.Place); err != nil {
		return err
	}
	return queue(ctx, p, cfg)
}

// queue hands over what is on descriptors 0 and 1. Exit codes are qmail's.
func queue(ctx context.Context, p *Process, cfg handover.Config) error {
	content, err := handover.Read(p.Stdin)
	if err != nil {
		return coded(err)
	}
	defer content.Close()
	from, to, err := envelope(p)
	if err != nil {
		return coded(err)
	}
	if len(to) == 0 {
		return nil // as qmail-queue takes it: there is nobody to miss it
	}
	return coded(handover.Send(ctx, cfg, handover.Message{Content: content, ReversePath: from, Recipients: to}))
}

func envelope(p *Process) (from string, to []string, err error) {
	in, ok := p.Stdout.(io.Reader)
	if !ok {
		return "", nil, failure{errors.New("the envelope can't be read from descriptor 1"), handover.CodeRead}
	}
	return handover.ReadEnvelope(in)
}

// collect hands what is on descriptors 0 and 1 to the engine that has called
// the wrapper that calls us.
func collect(p *Process, folder string) error {
	err := wrapper.Collect(folder, p.Stdin, func() (string, []string, error) { return envelope(p) })
	var f *handover.Failure
	var own failure
	switch {
	case err == nil || errors.As(err, &f) || errors.As(err, &own):
		return coded(err)
	case errors.Is(err, wrapper.ErrMessage):
		return failure{err, handover.CodeRead}
	}
	return failure{err, handover.CodeWrite}
}

// codeCustom says that the text is on descriptor 6 (notqmail's qmail-queue(8)).
const codeCustom = 82

// coded gives a failure its exit code. A server's own words go to a caller that
// has opened a pipe for them.
func coded(err error) error {
	var f *handover.Failure
	if !errors.As(err, &f) {
		return err
	}
	if f.Verdict != 0 && tellCaller(f.Verdict, f.Text) {
		return failure{f, codeCustom}
	}
	return failure{f, f.Code}
}

// tellCaller writes Z or D and a text to descriptor 6, if it is a pipe that was
// there when the process started: nothing here makes pipes.
func tellCaller(v wire.Verdict, text string) bool {
	const custom = 6
	var st unix.Stat_t
	if unix.Fstat(custom, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
		return false
	}
	flags, err := unix.FcntlInt(custom, unix.F_GETFL, 0)
	if err != nil || flags&unix.O_ACCMODE == unix.O_RDONLY {
		return false
	}
	_, err = unix.Write(custom, []byte(string(v)+text))
	return err == nil
}
