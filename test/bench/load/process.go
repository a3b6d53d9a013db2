package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// child in the environment tells a process that it is a sink.
const child = "QSTREAM_BENCH_SINK"

// Sink is a sink process. Its methods are safe for concurrent use.
type Sink struct {
	Port  int // of its hosts that have none of their own
	hosts []Host
	cmd   *exec.Cmd
	rpc   *rpc.Client
}

// Took is what a sink has taken since the last time it was asked.
type Took struct {
	Arrivals []Arrival
	Nameless int // mails without a number, such as bounces
}

// StartSink starts a process that listens on all hosts, and ends when it is
// closed or when this process ends. Main must be called by this program.
func StartSink(hosts []Host) (*Sink, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &Sink{hosts: hosts, cmd: exec.Command(self)}
	s.cmd.Env = append(os.Environ(), child+"=1")
	s.cmd.Stderr = os.Stderr
	var pipe stdio
	if pipe.w, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if pipe.r, err = s.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the sink: %w", err)
	}
	s.rpc = rpc.NewClient(pipe)
	if err := s.rpc.Call("Sink.Listen", hosts, &s.Port); err != nil {
		return nil, errors.Join(fmt.Errorf("the sink can't listen: %w", err), s.Close())
	}
	return s, nil
}

// Addr is the address of the nth host, counted round.
func (s *Sink) Addr(n int) string {
	h, port := s.hosts[n%len(s.hosts)], s.Port
	if h.Port != 0 {
		port = h.Port
	}
	return net.JoinHostPort(h.IP, strconv.Itoa(port))
}

// Count is how many arrivals there were since the start.
func (s *Sink) Count() (n int, err error) {
	err = s.rpc.Call("Sink.Count", 0, &n)
	return n, err
}

// Take is what arrived since the last Take.
func (s *Sink) Take() (t Took, err error) {
	err = s.rpc.Call("Sink.Take", 0, &t)
	return t, err
}

// CPU is the processor time that the sink has used.
func (s *Sink) CPU() (d time.Duration, err error) {
	err = s.rpc.Call("Sink.CPU", 0, &d)
	return d, err
}

// Await waits until n arrivals were counted since the start, and fails when
// none came for as long as patience, or when ctx has ended.
func (s *Sink) Await(ctx context.Context, n int, patience time.Duration) error {
	last, since := -1, time.Now()
	for {
		have, err := s.Count()
		if err != nil {
			return err
		}
		if have >= n {
			return nil
		}
		if have != last {
			last, since = have, time.Now()
		}
		if time.Since(since) > patience {
			return fmt.Errorf("%d of %d arrived, and none for %v", have, n, patience)
		}
		if !pause(ctx, 20*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// Close ends the process.
func (s *Sink) Close() error {
	_ = s.rpc.Close() // its standard input ends, so it does
	return s.cmd.Wait()
}

// Control is what the process of a sink answers.
type Control struct{ server *server }

// Listen starts the servers and tells their port.
func (c *Control) Listen(hosts []Host, port *int) (err error) {
	if c.server, err = newServer(hosts); err == nil {
		*port = c.server.port
	}
	return err
}

// Count tells the number of arrivals.
func (c *Control) Count(_ int, n *int) error {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	*n = c.server.count
	return nil
}

// Take hands over what arrived.
func (c *Control) Take(_ int, t *Took) error {
	t.Arrivals, t.Nameless = c.server.take()
	return nil
}

// CPU tells the processor time of this process.
func (c *Control) CPU(_ int, d *time.Duration) error {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return err
	}
	*d = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	return nil
}

// serve is the life of a sink process: it ends with its standard input.
func serve(pipe io.ReadWriteCloser) error {
	debug.SetGCPercent(800)
	s := rpc.NewServer()
	if err := s.RegisterName("Sink", &Control{}); err != nil {
		return err
	}
	s.ServeConn(pipe)
	return nil
}

// stdio is a pair of pipes; the zero stdio is this process's own.
type stdio struct {
	r io.ReadCloser
	w io.WriteCloser
}

func (p stdio) Read(b []byte) (int, error) {
	if p.r == nil {
		return os.Stdin.Read(b)
	}
	return p.r.Read(b)
}

func (p stdio) Write(b []byte) (int, error) {
	if p.w == nil {
		return os.Stdout.Write(b)
	}
	return p.w.Write(b)
}

func (p stdio) Close() error {
	if p.r == nil {
		return os.Stdin.Close()
	}
	return p.w.Close()
}
