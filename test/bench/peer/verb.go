package peer

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Verb is what a verb took.
type Verb struct {
	Out    string
	Took   time.Duration
	CPU    time.Duration
	Memory int64 // bytes at the most, as the kernel counts them (VmHWM)
}

// Verb runs one against the system. Its CPU is in nobody's figure.
func (q *QStream) Verb(ctx context.Context, args ...string) (v Verb, err error) {
	cmd := q.system.Command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return v, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		select {
		case err := <-ended:
			v.Out, v.Took, v.CPU = out.String(), time.Since(began), cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime()
			if err != nil {
				err = fmt.Errorf("qstream %s: %w: %s", strings.Join(args, " "), err, errs.String())
			}
			return v, err
		case <-look.C:
			v.Memory = max(v.Memory, highest(cmd.Process.Pid))
		}
	}
}

// highest is the most memory that a process has had; 0 if it has ended.
func highest(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0
	}
	kb, _ := strconv.ParseInt(fields[0], 10, 64)
	return kb << 10
}
