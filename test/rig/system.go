// Package rig runs a whole qstream for tests: the built binary as real
// processes, on the embedded broker or on one or three Apache Kafka brokers,
// with clients that hand mail in and processes that can be stopped, killed,
// frozen and started again.
package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"qstream/test/kafka"
	"qstream/test/port"
)

// Patience bounds each start and stop of a process on a busy machine.
const Patience = 2 * time.Minute

// System is one qstream under test: its processes and its broker. Once it is
// started, methods about different processes may be called at once, and Verb
// and Trace at any time; Procs is then to be read through Process.
type System struct {
	Broker string // "embedded", "kafka1", "kafka3"
	Work   string // folder of data, logs and scenario files
	SMTP   string // address of the edge
	QMQP   string // of QMQP there
	QMTP   string // of QMTP there
	Kafka  *kafka.Cluster
	Procs  map[string]*Process
	Env    []string                                // of all processes and verbs, beside this process's
	Front  func(name, addr string) (string, error) // of the Kafka brokers, see kafka.Options
	binary string
	mu     sync.Mutex // of Procs
}

// Process is one qstream process, running or not.
type Process struct {
	Name string
	Args []string
	Env  []string
	HTTP string // of health and metrics
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// New makes a system that runs nothing yet.
func New(broker, work string) (*System, error) {
	b, err := Binary()
	if err != nil {
		return nil, err
	}
	s := &System{Broker: broker, Work: work, Procs: map[string]*Process{}, binary: b}
	for _, addr := range []*string{&s.SMTP, &s.QMQP, &s.QMTP} {
		if *addr, err = port.FreeAddr(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// built is where Binary put what it built.
var built string

// Main runs a package's tests and clears away what Binary built; it is called
// by TestMain.
func Main(m interface{ Run() int }) {
	code := m.Run()
	Clean()
	os.Exit(code)
}

// Clean removes what Binary built; programs that are no tests call it last.
func Clean() { _ = os.RemoveAll(built) }

// Binary builds qstream once for this test process.
var Binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "qstream-rig-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "qstream")
	built = dir
	out, err := exec.Command("go", "build", "-o", path, "qstream/cmd/qstream").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build qstream: %w\n%s", err, out)
	}
	return path, nil
})

// Close kills what still runs.
func (s *System) Close() {
	for name := range s.Procs {
		_ = s.Signal(name, syscall.SIGKILL)
	}
	if s.Kafka != nil {
		_ = s.Kafka.Stop()
	}
}

// Up starts the broker and every role in one process, `qstream up`, with the
// documents of a file, or without if it is "".
func (s *System) Up(directory string, flags ...string) error {
	if err := s.StartBroker(); err != nil {
		return err
	}
	args := []string{"up", "--data", s.data(), "--smtp", s.SMTP, "--qmqp", s.QMQP, "--qmtp", s.QMTP}
	if directory != "" {
		args = append(args, "--apply", directory)
	}
	if s.Kafka != nil {
		args = append(args, "--kafka", s.seeds())
	}
	return s.Start("up", nil, append(args, flags...)...)
}

// Roles starts the broker, makes the topics, applies the directory and starts
// every role in a process of its own. On the embedded broker it is Up.
func (s *System) Roles(directory string, flags ...string) error {
	if s.Broker == "embedded" {
		return s.Up(directory, flags...)
	}
	if err := s.StartBroker(); err != nil {
		return err
	}
	for _, verb := range [][]string{{"topics", "create"}, {"apply", directory}} {
		if out, errs, err := s.Verb(verb...); err != nil {
			return fmt.Errorf("%v: %w: %s%s", verb, err, out, errs)
		}
	}
	for _, role := range []string{"ingest", "router", "scanner", "deliver", "delay", "tapper"} {
		if err := s.Role(role, role, nil, flags...); err != nil {
			return err
		}
	}
	return nil
}

// Role starts one more process of a role under a name.
func (s *System) Role(role, name string, env []string, flags ...string) error {
	args := []string{role, "--kafka", s.seeds()}
	if role == "ingest" {
		args = append(args, "--smtp", s.SMTP, "--qmqp", s.QMQP, "--qmtp", s.QMTP)
	}
	return s.Start(name, env, append(args, flags...)...)
}

func (s *System) data() string  { return filepath.Join(s.Work, "data") }
func (s *System) seeds() string { return strings.Join(s.Kafka.Seeds(), ",") }

// Start runs "qstream args..." as the named process and waits until /readyz
// says yes.
func (s *System) Start(name string, env []string, args ...string) error {
	http, err := port.FreeAddr()
	if err != nil {
		return err
	}
	p := &Process{Name: name, Args: args, Env: env, HTTP: http}
	if err := s.launch(p); err != nil {
		return err
	}
	return s.await(p)
}

func (s *System) launch(p *Process) error {
	log, err := os.OpenFile(filepath.Join(s.Work, p.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(s.binary, append(p.Args, "--http", p.HTTP)...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = s.Work, log, log
	p.cmd.Env = slices.Concat(os.Environ(), s.Env, p.Env)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.done = make(chan struct{})
	begun := make(chan error, 1)
	go func() {
		// Pdeathsig follows the thread that forked, so it has to live on.
		runtime.LockOSThread()
		err := p.cmd.Start()
		begun <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-begun; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	s.mu.Lock()
	s.Procs[p.Name] = p
	s.mu.Unlock()
	return nil
}

// Process is the newest process of that name, or nil.
func (s *System) Process(name string) *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.Procs[name]
}

// Forget takes a process that has ended off the list.
func (s *System) Forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.Procs, name)
}

func (s *System) await(p *Process) error {
	deadline := time.Now().Add(Patience)
	for time.Now().Before(deadline) {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at its start: %v\n%s", p.Name, p.err, s.LogTail(p.Name))
		case <-time.After(50 * time.Millisecond):
		}
		if ready(p.HTTP) {
			return nil
		}
	}
	return fmt.Errorf("%s not ready within %v\n%s", p.Name, Patience, s.LogTail(p.Name))
}

func ready(addr string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Signal sends sig to a process; after SIGTERM and SIGKILL it waits for its
// end.
func (s *System) Signal(name string, sig syscall.Signal) error {
	p := s.Process(name)
	if p == nil {
		return fmt.Errorf("no process %q", name)
	}
	select {
	case <-p.done:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	if sig != syscall.SIGTERM && sig != syscall.SIGKILL {
		return nil
	}
	select {
	case <-p.done:
	case <-time.After(Patience):
		return fmt.Errorf("%s didn't end within %v\n%s", name, Patience, s.LogTail(name))
	}
	if sig == syscall.SIGTERM && p.err != nil {
		return fmt.Errorf("%s ended with %v\n%s", name, p.err, s.LogTail(name))
	}
	return nil
}

// Again starts a stopped process with the arguments it had.
func (s *System) Again(name string) error {
	if err := s.Launch(name); err != nil {
		return err
	}
	return s.await(s.Process(name))
}

// Launch starts a stopped process as Again does, without waiting for it to be
// ready.
func (s *System) Launch(name string) error {
	s.mu.Lock()
	p := s.Procs[name]
	if p == nil {
		s.mu.Unlock()
		return fmt.Errorf("no process %q", name)
	}
	next := &Process{Name: p.Name, Args: p.Args, Env: p.Env, HTTP: p.HTTP}
	s.mu.Unlock()
	return s.launch(next)
}

// SetEnv changes what a process is started with the next time, beside Env.
func (s *System) SetEnv(name string, env ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Procs[name].Env = env
}

// Ready is what a process says of itself at /readyz.
func (s *System) Ready(name string) bool { return ready(s.Process(name).HTTP) }

// Ended reports whether a process ends by itself within a time.
func (s *System) Ended(name string, within time.Duration) bool {
	return s.Process(name).Ended(within)
}

// Ended reports whether the process ends within a time.
func (p *Process) Ended(within time.Duration) bool {
	select {
	case <-p.done:
		return true
	default:
	}
	select {
	case <-p.done:
		return true
	case <-time.After(within):
		return false
	}
}

// locate are the flags by which a verb finds this system: as the user of an
// up finds it by its folder, as that of single roles by Kafka. A verb that is
// told already needs none.
func (s *System) locate(args []string) []string {
	told := func(arg string) bool { return arg == "--data" || arg == "--kafka" || arg == "--smtp" || arg == "--api" }
	switch up := s.Process("up") != nil; {
	case slices.Contains(args, "up") || !slices.ContainsFunc(args, told) && (up || s.Kafka == nil):
		return []string{"--data", s.data()}
	case slices.ContainsFunc(args, told):
		return nil
	}
	return []string{"--kafka", s.seeds()}
}

// Verb runs a verb against the system.
func (s *System) Verb(args ...string) (stdout, stderr []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := s.Command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.Bytes(), errs.Bytes(), err
}

// Command is a verb against the system that isn't running yet.
func (s *System) Command(ctx context.Context, args ...string) *exec.Cmd {
	var where []string
	switch {
	case args[0] == "tap" && args[1] != "archive": // asks a vault
	case args[0] != "topics" && slices.Contains(args, "verify") && !slices.Contains(args, "chain"): // looks at a file
	default:
		where = s.locate(args)
	}
	cmd := exec.CommandContext(ctx, s.binary, slices.Concat(args, where)...)
	cmd.Dir, cmd.Env = s.Work, append(os.Environ(), s.Env...)
	return cmd
}

// Trace is the events of a message, as `qstream trace --json` prints them.
func (s *System) Trace(id string) ([]map[string]any, error) {
	out, errs, err := s.Verb("trace", id, "--json")
	if err != nil {
		return nil, fmt.Errorf("trace %s: %v: %s", id, err, errs)
	}
	var life struct{ Events []map[string]any }
	if err := json.Unmarshal(out, &life); err != nil {
		return nil, fmt.Errorf("trace %s: %w in %q", id, err, out)
	}
	return life.Events, nil
}

// LogTail is the end of a process's log.
func (s *System) LogTail(name string) string {
	b, _ := os.ReadFile(filepath.Join(s.Work, name+".log"))
	if len(b) > 4000 {
		b = b[len(b)-4000:]
	}
	return string(b)
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }
