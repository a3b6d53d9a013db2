// Package process runs programs, those that engines ask and those that the edge
// asks about passwords and mailboxes: with bounded time, output and resources,
// and with their files in a private folder. Nothing else starts programs.
//
// Guarantee: when Run returns, the program has ended and is waited for, and so
// has every process of its group: at the end of the context all are killed, and
// what a program leaves behind is killed with it.
// Guarantee: on Linux a program ends with this process, however that is ended.
// Guarantee: a program is given its variables and files, and inherits none that
// this process has opened.
// Guarantee: nothing of a scan stays on the disk: its folder goes with it, and
// the folders of processes that were killed go when the next one makes its first.
//
// A program that leaves its process group isn't followed. When this process is
// killed, nobody is left to kill a group: what a program has started itself, and
// a program that has changed its user or was set-user-ID, then runs to its end.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"qstream/engine"
)

// Limits are what a program and each of its children may use; 0: no limit of
// ours. They are set by ulimit of /bin/sh, which has to be there then.
type Limits struct {
	CPU      time.Duration // of processor time, rounded up to seconds (RLIMIT_CPU)
	Memory   int64         // bytes of address space (RLIMIT_AS)
	FileSize int64         // bytes of a file that it writes (RLIMIT_FSIZE)
	Files    int           // open files (RLIMIT_NOFILE)
}

// Check refuses what can't be set.
func (l Limits) Check() error {
	if l.CPU < 0 || l.Memory < 0 || l.FileSize < 0 || l.Files < 0 {
		return errors.New("negative limit of a program")
	}
	if l.Files > 0 && l.Files < 16 {
		return fmt.Errorf("a program can't run with %d open files", l.Files)
	}
	return nil
}

// script is what sets the limits, in the units of POSIX and of dash; empty:
// there are none.
func (l Limits) script() string {
	var b strings.Builder
	for _, one := range []struct {
		flag        byte
		limit, unit int64
	}{
		{'t', int64(l.CPU), int64(time.Second)}, {'v', l.Memory, 1 << 10}, {'f', l.FileSize, 512}, {'n', int64(l.Files), 1},
	} {
		if one.limit > 0 {
			fmt.Fprintf(&b, "ulimit -%c %d || exit 126; ", one.flag, (one.limit+one.unit-1)/one.unit)
		}
	}
	return b.String()
}

// MaxOutput is what is kept of a program's output; one that says more than
// maxSaid is killed.
const (
	MaxOutput = 16 << 10
	maxSaid   = 4 << 20
)

// maxThree is what the smallest pipe holds before anybody reads.
const maxThree = 4 << 10

// lingering is how long output is awaited of what a program left behind.
const lingering = time.Second

// Program is a call.
type Program struct {
	Path   string // absolute, or a name that is looked for in PATH
	Args   []string
	Env    []string
	Dir    string
	Limits Limits
	Stdin  *os.File // nil: nothing
	Stdout *os.File // descriptor 1; nil: output is kept
	Mute   bool     // output leads nowhere instead, also that on descriptor 2
	Three  []byte   // to be read from descriptor 3, at most 4 KiB; empty: closed
	Six    *os.File // descriptor 6; nil: closed
}

// Result is how a program ended.
type Result struct {
	Code   int            // its exit code; -1 if a signal ended it
	Signal syscall.Signal // 0: it exited by itself
	Output string         // the first MaxOutput bytes; hostile
}

// String says how, for people.
func (r Result) String() string {
	if r.Signal != 0 {
		return fmt.Sprintf("killed by signal %d (%v)", int(r.Signal), r.Signal)
	}
	return fmt.Sprintf("exit code %d", r.Code)
}

// Detail is how it ended and the last line it said, fit for a verdict.
func (r Result) Detail() string {
	text := strings.TrimSpace(r.Output)
	if text == "" {
		return r.String()
	}
	return engine.Text(r.String() + ": " + text[strings.LastIndexByte(text, '\n')+1:])
}

var (
	// ErrStart is a program that can't be run.
	ErrStart = errors.New("can't be run")
	// ErrOutput is one that was killed for what it printed.
	ErrOutput = fmt.Errorf("prints more than %d bytes", maxSaid)
)

// Run runs the program to its end. The error is of ctx, or one of the above.
// Safe for concurrent use; each takes a thread of the system meanwhile.
func Run(ctx context.Context, p Program) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	// The program ends with the thread that forked it (attributes), so this one
	// has to live as long.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A shell that sets limits would hide that it isn't there.
	if err := Executable(p.Path); err != nil {
		return Result{}, err
	}
	said := &output{full: func() { cancel(ErrOutput) }}
	c := p.command(said)
	three, err := holding(p.Three)
	if err != nil {
		return Result{}, fmt.Errorf("%s %w: %w", p.Path, ErrStart, err)
	}
	defer three.Close() // of nil is an error, and no more
	c.ExtraFiles = inherited(three, p.Six)
	if err := c.Start(); err != nil {
		return Result{}, fmt.Errorf("%s %w: %w", p.Path, ErrStart, err)
	}
	g := &group{leader: c.Process.Pid}
	stop := context.AfterFunc(ctx, g.kill)
	err = g.wait(c)
	stop()
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	r := Result{Output: said.text()}
	if c.ProcessState == nil {
		return r, fmt.Errorf("wait for %s: %w", p.Path, err)
	}
	r.Code = c.ProcessState.ExitCode()
	if s, ok := c.ProcessState.Sys().(syscall.WaitStatus); ok && s.Signaled() {
		r.Signal = s.Signal()
	}
	return r, nil
}

// Within bounds a run; 0 adds no bound to that of ctx.
func Within(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

// Executable says with an error why a program can't be run.
func Executable(path string) error {
	if _, err := exec.LookPath(path); err != nil {
		return fmt.Errorf("%s %w: %w", path, ErrStart, err)
	}
	return nil
}

func (p Program) command(said *output) *exec.Cmd {
	path, args := p.Path, p.Args
	if s := p.Limits.script(); s != "" {
		path, args = "/bin/sh", append([]string{"-c", s + `exec "$0" "$@"`, p.Path}, p.Args...)
	}
	c := exec.Command(path, args...)
	c.Env = p.Env
	if c.Env == nil {
		c.Env = []string{}
	}
	c.Dir = p.Dir
	if p.Stdin != nil {
		c.Stdin = p.Stdin
	}
	if !p.Mute {
		c.Stdout, c.Stderr = said, said
	}
	if p.Stdout != nil {
		c.Stdout = p.Stdout
	}
	c.SysProcAttr = attributes()
	c.WaitDelay = lingering
	return c
}

// holding is a pipe's end from which the text can be read; nil: there is none.
func holding(text []byte) (*os.File, error) {
	switch {
	case len(text) == 0:
		return nil, nil
	case len(text) > maxThree:
		return nil, fmt.Errorf("%d bytes for descriptor 3, more than %d", len(text), maxThree)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = w.Write(text) // nothing waits for a program that reads none
	if err = errors.Join(err, w.Close()); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// inherited are the descriptors from 3 on.
func inherited(three, six *os.File) []*os.File {
	switch {
	case six != nil:
		return []*os.File{three, nil, nil, six}
	case three != nil:
		return []*os.File{three}
	}
	return nil
}

// group is a process group that may be killed until its leader is waited for,
// when its number may become another's.
type group struct {
	mu     sync.Mutex
	leader int
}

func (g *group) kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leader > 0 {
		_ = syscall.Kill(-g.leader, syscall.SIGKILL)
	}
}

// wait waits for the program, and ends what it leaves behind.
func (g *group) wait(c *exec.Cmd) error {
	if ended(c.Process.Pid) {
		g.kill()
		g.forget()
		return c.Wait()
	}
	err := c.Wait()
	g.kill()
	g.forget()
	return err
}

func (g *group) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.leader = 0
}

// output keeps the beginning of what is said, from one goroutine at a time.
type output struct {
	mu   sync.Mutex
	held []byte
	n    int
	full func()
}

// Write never fails: a program isn't to notice.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.held = append(o.held, p[:min(len(p), MaxOutput-len(o.held))]...)
	if o.n += len(p); o.n > maxSaid {
		o.full()
	}
	return len(p), nil
}

func (o *output) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.held)
}
