// Package command asks a program by s/qmail's QHPSI contract: it is called with
// the message in a file and up to three arguments, and its exit code says
// whether the message is infected.
//
// Guarantee: Clean means that the program exited with 0 after it was called
// with the whole message, or that Config.Outside says clean of a message outside
// of the window.
// Guarantee: whatever ends the program otherwise is Failed: another exit code,
// a signal, the deadline, too much output, no such program.
//
// The message's lines are ended by LF, as qmail stores it. The program gets it
// by name in a folder that is gone when the scan ends; it must not go on in the
// background.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"qstream/engine"
	"qstream/engine/process"
	"qstream/qmail"
)

// maxArgs are QHPSIARG1 to QHPSIARG3.
const maxArgs = 3

// Config is a program. What is zero takes its default.
type Config struct {
	Name    string   // in verdicts; default "command"
	Program string   // QHPSI; an absolute path, or a name that is looked for in PATH
	Args    []string // QHPSIARG1..3, behind the file's name
	Code    int      // QHPSIRC, the exit code that means infected; default 1
	// QHPSIMINSIZE and QHPSIMAXSIZE: what is smaller or larger, in bytes with
	// LF, isn't scanned; 0: no bound.
	MinSize, MaxSize int64
	Base64           bool // BASE64: what announces no base64 isn't scanned
	// Outside is what becomes of a message that isn't scanned: "unscannable",
	// the default, or "clean", as s/qmail has it.
	Outside string
	// Env are variables beyond those of the envelope and the session, as
	// tcprules give them: "NAME=value".
	Env    []string
	Time   time.Duration // for a run; default as long as the scan may take
	Dir    string        // of the messages' files; default the system's temporary folder
	Limits process.Limits
}

// Engine is a program that can be asked.
type Engine struct {
	cfg  Config
	room *process.Room
}

var _ engine.Engine = (*Engine)(nil)

// New checks cfg and runs nothing.
func New(cfg Config) (*Engine, error) {
	switch {
	case !filepath.IsAbs(cfg.Program) && (cfg.Program == "" || strings.ContainsRune(cfg.Program, '/')):
		return nil, fmt.Errorf("command: program %q is neither an absolute path nor a name", cfg.Program)
	case len(cfg.Args) > maxArgs:
		return nil, fmt.Errorf("command: %d arguments, more than %d", len(cfg.Args), maxArgs)
	case cfg.Code < 0 || cfg.Code > 255:
		return nil, fmt.Errorf("command: exit code %d is none", cfg.Code)
	case cfg.MinSize < 0 || cfg.MaxSize < 0:
		return nil, errors.New("command: negative setting")
	case cfg.MaxSize > 0 && cfg.MinSize > cfg.MaxSize:
		return nil, errors.New("command: nothing is as large as the smallest and as small as the largest size")
	case cfg.Outside != "" && cfg.Outside != "clean" && cfg.Outside != "unscannable":
		return nil, fmt.Errorf("command: outside is %q, neither clean nor unscannable", cfg.Outside)
	}
	for _, a := range cfg.Args {
		if strings.ContainsRune(a, 0) {
			return nil, errors.New("command: NUL in an argument")
		}
	}
	if err := process.Check(cfg.Time, cfg.Limits, cfg.Env); err != nil {
		return nil, fmt.Errorf("command: %w", err)
	}
	if cfg.Name == "" {
		cfg.Name = "command"
	}
	if cfg.Code == 0 {
		cfg.Code = 1
	}
	return &Engine{cfg: cfg, room: process.NewRoom(cfg.Dir)}, nil
}

// Name is Config.Name.
func (e *Engine) Name() string { return e.cfg.Name }

// Close removes what is kept on the disk.
func (e *Engine) Close() error { return e.room.Close() }

// State says whether the program can be run. What it knows it doesn't tell.
func (e *Engine) State(context.Context) (engine.State, error) {
	if err := process.Executable(e.cfg.Program); err != nil {
		return engine.State{}, err
	}
	return engine.State{Software: engine.Text(e.cfg.Program)}, nil
}

// Scan stores content and runs the program on it.
func (e *Engine) Scan(ctx context.Context, content io.Reader, f *engine.Facts) engine.Verdict {
	folder, leave, err := e.room.Folder()
	if err != nil {
		return engine.FailedBy(ctx, e.cfg.Name, &engine.Failure{Reason: engine.Trouble, Err: err})
	}
	defer leave()
	base64 := qmail.NewContentScan(qmail.ContentRules{})
	path, size, err := process.Store(ctx, folder, content, e.cfg.MaxSize, base64)
	if err != nil {
		return engine.FailedBy(ctx, e.cfg.Name, err)
	}
	switch {
	case size < e.cfg.MinSize:
		return e.outside(engine.OutOfScope, fmt.Sprintf("smaller than %d bytes", e.cfg.MinSize))
	case e.cfg.MaxSize > 0 && size > e.cfg.MaxSize:
		return e.outside(engine.TooLarge, fmt.Sprintf("larger than %d bytes", e.cfg.MaxSize))
	case e.cfg.Base64 && !base64.Base64:
		return e.outside(engine.OutOfScope, "nothing is in base64")
	}
	run, cancel := process.Within(ctx, e.cfg.Time)
	defer cancel()
	r, err := process.Run(run, process.Program{Path: e.cfg.Program, Args: append([]string{path}, e.cfg.Args...),
		Env: append(process.Env(f), e.cfg.Env...), Dir: folder, Limits: e.cfg.Limits})
	if err != nil {
		return process.Failed(run, e.cfg.Name, err)
	}
	return e.verdict(r)
}

// outside is the verdict on what the window or the gate leaves out.
func (e *Engine) outside(r engine.Reason, why string) engine.Verdict {
	v := engine.Verdict{Engine: e.cfg.Name, Outcome: engine.Unscannable, Reason: r, Detail: "not scanned: " + why}
	if e.cfg.Outside == "clean" {
		v.Outcome, v.Reason = engine.Clean, engine.NoReason
	}
	return v
}

// verdict reads how the program ended.
func (e *Engine) verdict(r process.Result) engine.Verdict {
	v := engine.Verdict{Engine: e.cfg.Name}
	switch {
	case r.Signal == 0 && r.Code == 0:
		v.Outcome = engine.Clean
	case r.Signal == 0 && r.Code == e.cfg.Code:
		v.Outcome, v.Name = engine.Malware, found(r.Output)
	default:
		v.Reason, v.Detail = engine.Trouble, r.Detail()
	}
	return v
}

// found is what clamdscan and others of ClamAV call it, "FILE: NAME FOUND", else
// the word that s/qmail uses.
func found(output string) string {
	for line := range strings.Lines(output) {
		if text, ok := strings.CutSuffix(strings.TrimSpace(line), " FOUND"); ok {
			if name := engine.Text(text[strings.LastIndex(text, ": ")+1:]); name != "" {
				return name
			}
		}
	}
	return "infected"
}
