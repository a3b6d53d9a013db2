package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"qstream/test/bench/peer"
)

// Servers under measurement.
const (
	plain            = "qstream"           // sessions of the edge on a bus that discards
	policies         = "qstream+policies"  // with every kind of policy that asks no DNS
	goSMTP           = "go-smtp"           // go-smtp's server, the same sessions and bus as qstream
	embeddedPlain    = "embedded"          // the edge on the embedded broker, which flushes its disk
	embeddedPolicies = "embedded+policies" // with policies
	postfix          = "postfix"
)

var kinds = []string{plain, policies, goSMTP, embeddedPlain, embeddedPolicies, postfix}

// child in the environment tells a process what server it is.
const child = "QSTREAM_BENCH_EDGE"

// pinned in the environment tells it to use the first processor alone.
const pinned = "QSTREAM_BENCH_EDGE_PINNED"

// server is one that runs.
type server struct {
	addr string
	cpu  func() (time.Duration, error)
	stop func() error
}

func start(ctx context.Context, kind string, pin bool) (*server, error) {
	if kind == postfix {
		return startPostfix(ctx)
	}
	return startChild(kind, pin)
}

// startPostfix starts one that only takes: mail on hold is durable and not
// looked at again.
func startPostfix(ctx context.Context) (*server, error) {
	p := &peer.Postfix{
		Site:     peer.All("127.0.0.1:9", "acme.example"),
		Settings: []string{"smtpd_data_restrictions = check_client_access static:HOLD"},
	}
	if err := p.Start(ctx); err != nil {
		return nil, err
	}
	cpu := func() (time.Duration, error) {
		u, err := p.Usage()
		return u.CPU, err
	}
	return &server{p.Addr(), cpu, p.Stop}, nil
}

// startChild starts this program again. It says its address in a line, then
// its CPU time in microseconds for every line that it reads, and ends with its
// standard input.
func startChild(kind string, pin bool) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), child+"="+kind)
	if pin {
		cmd.Env = append(cmd.Env, pinned+"=1", "GOMAXPROCS=1")
	}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{stop: func() error { return errors.Join(in.Close(), cmd.Wait()) }}
	out := bufio.NewReader(pipe)
	line, err := out.ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("no address: %w", err), s.stop())
	}
	s.addr = strings.TrimSpace(line)
	s.cpu = func() (time.Duration, error) {
		if _, err := io.WriteString(in, "cpu\n"); err != nil {
			return 0, err
		}
		line, err := out.ReadString('\n')
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		return time.Duration(n) * time.Microsecond, err
	}
	return s, nil
}

// serve is the child's side.
func serve(kind string) error {
	if os.Getenv(pinned) != "" {
		var first unix.CPUSet
		first.Set(0)
		if err := allThreads(&first); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	addr, stop, err := open(ctx, kind)
	if err != nil {
		return err
	}
	fmt.Println(addr)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var own unix.Rusage
		if err := unix.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
			return err
		}
		fmt.Println((own.Utime.Nano() + own.Stime.Nano()) / 1000)
	}
	cancel()
	return stop()
}

// keepOffFirst leaves the first processor to the server.
func keepOffFirst() error {
	if runtime.NumCPU() < 2 {
		return errors.New("-pin needs two processors")
	}
	var rest unix.CPUSet
	for i := 1; i < runtime.NumCPU(); i++ {
		rest.Set(i)
	}
	runtime.GOMAXPROCS(runtime.NumCPU() - 1)
	return allThreads(&rest)
}

// allThreads sets the processors of every thread that this process has; those
// that it makes later take over their maker's.
func allThreads(set *unix.CPUSet) error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range threads {
		id, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(id, set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("choose processors: %w", err)
		}
	}
	return nil
}
