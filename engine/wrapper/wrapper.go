// Package wrapper asks a QMAILQUEUE wrapper of the qmail world, unchanged: the
// message on descriptor 0, the envelope on descriptor 1, an exit code, and text of
// its own on descriptor 6. The qmail-queue that it calls at its end is the
// drop-in of this binary, which hands to Collect.
//
// Guarantee: Clean means that the wrapper exited with 0 after it had passed on
// the message once, to the same reverse-path and recipients, with the body
// unchanged. Header fields that it added or removed come with the verdict.
// Guarantee: whatever is not understood is Failed: a changed body or envelope, a
// second message, exit code 0 with nothing passed on (unless Config.Discards).
// Guarantee: nothing is delivered by what the wrapper passes on.
//
// A wrapper must call the drop-in, as Config.Queue or by QMAILQUEUE: mail that
// it gives to another qmail-queue is out of our hands.
package wrapper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"qstream/engine"
	"qstream/engine/process"
)

// Config is a wrapper. What is zero takes its default.
type Config struct {
	Name    string // in verdicts; default "wrapper"
	Program string // QMAILQUEUE; an absolute path
	Args    []string
	// Home is the folder it is run in, qmail's home for those that read
	// control/...; default the folder of the scan.
	Home string
	// Queue is the drop-in's path, which programs of the wrapper's find in
	// QMAILQUEUE; default /var/qmail/bin/qmail-queue.
	Queue string
	// Env are variables beyond those of the envelope and the session, as
	// tcprules give them: "NAME=value".
	Env []string
	// Discards takes exit code 0 with nothing passed on for the wrapper's wish
	// that the message is dropped.
	Discards bool
	Time     time.Duration // for a run; default as long as the scan may take
	Dir      string        // of the messages' files; default the system's temporary folder
	Limits   process.Limits
}

// Engine is a wrapper that can be asked.
type Engine struct {
	cfg  Config
	room *process.Room
}

var _ engine.Engine = (*Engine)(nil)

// New checks cfg and runs nothing.
func New(cfg Config) (*Engine, error) {
	switch {
	case !filepath.IsAbs(cfg.Program):
		return nil, fmt.Errorf("wrapper: program %q is no absolute path", cfg.Program)
	case cfg.Home != "" && !filepath.IsAbs(cfg.Home):
		return nil, fmt.Errorf("wrapper: home %q is no absolute path", cfg.Home)
	case cfg.Queue != "" && !filepath.IsAbs(cfg.Queue):
		return nil, fmt.Errorf("wrapper: qmail-queue %q is no absolute path", cfg.Queue)
	}
	if err := process.Check(cfg.Time, cfg.Limits, cfg.Env); err != nil {
		return nil, fmt.Errorf("wrapper: %w", err)
	}
	if cfg.Name == "" {
		cfg.Name = "wrapper"
	}
	if cfg.Queue == "" {
		cfg.Queue = "/var/qmail/bin/qmail-queue"
	}
	return &Engine{cfg: cfg, room: process.NewRoom(cfg.Dir)}, nil
}

// Name is Config.Name.
func (e *Engine) Name() string { return e.cfg.Name }

// Close removes what is kept on the disk.
func (e *Engine) Close() error { return e.room.Close() }

// State says whether the wrapper and the drop-in can be run. What the wrapper
// knows it doesn't tell.
func (e *Engine) State(context.Context) (engine.State, error) {
	if err := errors.Join(process.Executable(e.cfg.Program), process.Executable(e.cfg.Queue)); err != nil {
		return engine.State{}, err
	}
	return engine.State{Software: engine.Text(e.cfg.Program)}, nil
}

// Scan stores content and runs the wrapper on it.
func (e *Engine) Scan(ctx context.Context, content io.Reader, f *engine.Facts) engine.Verdict {
	folder, leave, err := e.room.Folder()
	if err != nil {
		return engine.FailedBy(ctx, e.cfg.Name, &engine.Failure{Reason: engine.Trouble, Err: err})
	}
	defer leave()
	path, _, err := process.Store(ctx, folder, content, 0, nil)
	if err != nil {
		return engine.FailedBy(ctx, e.cfg.Name, err)
	}
	run, cancel := process.Within(ctx, e.cfg.Time)
	defer cancel()
	v, err := e.run(run, folder, path, f)
	if err != nil {
		return process.Failed(run, e.cfg.Name, err)
	}
	v.Engine = e.cfg.Name
	return v
}

// run calls the wrapper and judges what came of it.
func (e *Engine) run(ctx context.Context, folder, path string, f *engine.Facts) (engine.Verdict, error) {
	sent := envelope(f.ReversePath, f.Recipients)
	message, err := os.Open(path)
	if err != nil {
		return engine.Verdict{}, engine.Fail(engine.Trouble, "read the message back: %w", err)
	}
	defer message.Close()
	one, err := reading(filepath.Join(folder, "envelope"), sent)
	if err != nil {
		return engine.Verdict{}, err
	}
	defer one.Close()
	six, err := os.OpenFile(filepath.Join(folder, "six"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return engine.Verdict{}, engine.Fail(engine.Trouble, "make a file for what it says: %w", err)
	}
	defer six.Close()
	r, err := process.Run(ctx, process.Program{Path: e.cfg.Program, Args: e.cfg.Args, Env: e.env(folder, f), Dir: e.home(folder),
		Limits: e.cfg.Limits, Stdin: message, Stdout: one, Six: six})
	if err != nil {
		return engine.Verdict{}, err
	}
	if r.Signal != 0 || r.Code != 0 {
		return verdict(r, custom(six)), nil
	}
	return e.passed(ctx, folder, path, sent)
}

func (e *Engine) home(folder string) string {
	if e.cfg.Home != "" {
		return e.cfg.Home
	}
	return folder
}

func (e *Engine) env(folder string, f *engine.Facts) []string {
	return append(append(process.Env(f), e.cfg.Env...), "QMAILQUEUE="+e.cfg.Queue, FolderVariable+"="+folder)
}

// reading is a file with a text, open for reading only, as the pipe would be.
func reading(path, text string) (*os.File, error) {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, engine.Fail(engine.Trouble, "write the envelope: %w", err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, engine.Fail(engine.Trouble, "read the envelope back: %w", err)
	}
	return f, nil
}

// envelope is qmail-queue's: F, the reverse-path and a NUL, for each recipient
// T, the address and a NUL, and a NUL.
func envelope(from string, to []string) string {
	var b strings.Builder
	address := func(token byte, a string) {
		b.WriteByte(token)
		b.WriteString(strings.ReplaceAll(a, "\x00", ""))
		b.WriteByte(0)
	}
	address('F', from)
	for _, t := range to {
		address('T', t)
	}
	b.WriteByte(0)
	return b.String()
}

// maxSaid bounds what is read from descriptor 6.
const maxSaid = 1000

// custom is what it said on descriptor 6: Z or D and a text.
func custom(six *os.File) string {
	b := make([]byte, maxSaid)
	n, err := six.ReadAt(b, 0)
	if err != nil && err != io.EOF {
		return ""
	}
	return string(b[:n])
}
