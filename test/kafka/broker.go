package kafka

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Broker is one broker process, running or not. Its methods may be called
// from several goroutines.
type Broker struct {
	ID    int
	Addr  string // host:port of its clients' listener; kept over restarts
	Front string // where it is known to clients and other brokers

	dir, libs, heap string

	pid  atomic.Int64
	mu   sync.Mutex
	cmd  *exec.Cmd     // nil: not running
	gone chan struct{} // closed when cmd has ended
}

func (b *Broker) file(name string) string { return filepath.Join(b.dir, name) }

// java is the command line of one of Kafka's programs.
func (b *Broker) java(class string, args ...string) []string {
	return append([]string{
		"-Xmx" + b.heap, "-Xms" + b.heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Dlog4j2.configurationFile=" + b.file("log4j2.properties"),
		"-cp", b.libs + "/*", class,
	}, args...)
}

// Start starts the broker, again after Kill or Stop, and returns once it
// serves.
func (b *Broker) Start(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd != nil {
		return fmt.Errorf("broker %d runs already", b.ID)
	}
	log, err := os.OpenFile(b.file("broker.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	reader, writer := io.Pipe()
	cmd := exec.Command("java", b.java("kafka.Kafka", b.file("server.properties"))...)
	cmd.Stdout, cmd.Stderr = writer, writer
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	serving, gone := make(chan struct{}), make(chan struct{})
	go watch(reader, log, serving)
	begun := make(chan error, 1)
	go func() {
		// Pdeathsig follows the thread that forked, so it has to live on.
		runtime.LockOSThread()
		err := cmd.Start()
		begun <- err
		if err == nil {
			_ = cmd.Wait()
		}
		_ = writer.Close()
		close(gone)
	}()
	if err := <-begun; err != nil {
		return fmt.Errorf("start broker %d: %w", b.ID, err)
	}
	b.cmd, b.gone = cmd, gone
	b.pid.Store(int64(cmd.Process.Pid))
	select {
	case <-serving:
		return nil
	case <-gone:
		b.cmd = nil
		b.pid.Store(0)
		return fmt.Errorf("broker %d ended while starting:\n%s", b.ID, b.tail())
	case <-ctx.Done():
		return fmt.Errorf("start broker %d: %w", b.ID, ctx.Err())
	case <-time.After(within):
		return fmt.Errorf("broker %d isn't ready after %v:\n%s", b.ID, within, b.tail())
	}
}

// watch copies a broker's output to its log and closes serving at the line
// that says that it serves.
func watch(r io.Reader, log io.WriteCloser, serving chan struct{}) {
	defer log.Close()
	lines := bufio.NewReader(r)
	once := sync.OnceFunc(func() { close(serving) })
	for {
		line, err := lines.ReadString('\n')
		_, _ = io.WriteString(log, line)
		if strings.Contains(line, started) {
			once()
		}
		if err != nil {
			return
		}
	}
}

// tail is the end of the broker's log.
func (b *Broker) tail() string {
	text, err := os.ReadFile(b.file("broker.log"))
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// PID is the broker's process id, from the moment that it is started; 0 when
// it doesn't run. It never waits.
func (b *Broker) PID() int { return int(b.pid.Load()) }

// Kill ends the broker as a crash would.
func (b *Broker) Kill() error { return b.end(syscall.SIGKILL) }

// Stop lets the broker shut down; one that doesn't in time is killed.
func (b *Broker) Stop() error { return b.end(syscall.SIGTERM) }

// Freeze stops the broker where it is (SIGSTOP); its sockets stay open. It
// returns when no thread of it runs any more: the signal alone is only a
// request, and on a busy machine a broker answers for some milliseconds more.
func (b *Broker) Freeze() error {
	if err := b.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if stopped(b.PID()) {
			return nil
		}
	}
	return fmt.Errorf("broker %d still runs %v after SIGSTOP", b.ID, within)
}

// stopped reports whether every thread of a process is stopped, by proc(5).
// Where there is no /proc, nothing is known of it and a stop is believed.
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // a thread that has ended
		}
		// The state follows the name, which is in parentheses and may hold any.
		_, rest, _ := strings.Cut(string(text[max(0, strings.LastIndexByte(string(text), ')')):]), " ")
		if !strings.HasPrefix(rest, "T") {
			return false
		}
	}
	return true
}

// Thaw lets a frozen broker go on.
func (b *Broker) Thaw() error { return b.signal(syscall.SIGCONT) }

func (b *Broker) signal(s syscall.Signal) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd == nil {
		return fmt.Errorf("broker %d doesn't run", b.ID)
	}
	return b.cmd.Process.Signal(s)
}

// end signals the broker and waits until it is gone. One that doesn't run is
// left alone.
func (b *Broker) end(s syscall.Signal) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd == nil {
		return nil
	}
	if err := b.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("end broker %d: %w", b.ID, err)
	}
	select {
	case <-b.gone:
	case <-time.After(within):
		_ = b.cmd.Process.Kill()
		<-b.gone
	}
	b.cmd = nil
	b.pid.Store(0)
	return nil
}
