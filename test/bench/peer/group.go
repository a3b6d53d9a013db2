package peer

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// group is a control group that counts the CPU of a peer's processes.
type group struct {
	dir  string
	peak atomic.Int64
	done chan struct{}
	wg   sync.WaitGroup
}

var groups atomic.Int64 // numbers them within this process

// newGroup makes one, by the first version of control groups where its CPU
// accounting is mounted, else by the second.
func newGroup() (*group, error) {
	root := "/sys/fs/cgroup/cpuacct"
	if _, err := os.Stat(root); err != nil {
		root = "/sys/fs/cgroup"
	}
	g := &group{dir: filepath.Join(root, fmt.Sprintf("qstream-bench-%d-%d", os.Getpid(), groups.Add(1))), done: make(chan struct{})}
	if err := os.Mkdir(g.dir, 0o755); err != nil {
		return nil, fmt.Errorf("control group, which needs root: %w", err)
	}
	g.wg.Go(g.watch)
	return g, nil
}

// add moves a running process, and so its later children, into the group.
func (g *group) add(pid int) error {
	return os.WriteFile(filepath.Join(g.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
}

// pids are the processes that run in it.
func (g *group) pids() []int {
	text, _ := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
	var pids []int
	for _, f := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// cpu is what its processes have used, ended ones included.
func (g *group) cpu() (time.Duration, error) {
	if text, err := os.ReadFile(filepath.Join(g.dir, "cpuacct.usage")); err == nil {
		ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		return time.Duration(ns), err
	}
	text, err := os.ReadFile(filepath.Join(g.dir, "cpu.stat"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if us, ok := strings.CutPrefix(line, "usage_usec "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(us), 10, 64)
			return time.Duration(n) * time.Microsecond, err
		}
	}
	return 0, errors.New("cpu.stat without usage_usec")
}

func (g *group) watch() {
	t := time.NewTicker(500 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-g.done:
			return
		case <-t.C:
			g.sample()
		}
	}
}

// sample looks at the memory once.
func (g *group) sample() {
	var sum int64
	for _, pid := range g.pids() {
		sum += pss(pid)
	}
	g.peak.Store(max(g.peak.Load(), sum))
}

// pss is the proportional set size of a process in bytes, 0 if it is gone.
func pss(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	for line := range bytes.Lines(text) {
		if f := bytes.Fields(line); len(f) >= 2 && string(f[0]) == "Pss:" {
			kb, _ := strconv.ParseInt(string(f[1]), 10, 64)
			return kb << 10
		}
	}
	return 0
}

// close kills what still runs in the group and removes it.
func (g *group) close() error {
	close(g.done)
	g.wg.Wait()
	var err error
	for range 100 {
		for _, pid := range g.pids() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if err = os.Remove(g.dir); err == nil || os.IsNotExist(err) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("remove control group: %w", err)
}
