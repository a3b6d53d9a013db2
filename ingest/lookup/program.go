package lookup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"qstream/ingest/policy"
	"qstream/qmail"
)

// program asks whether a mailbox exists, and then about the address without
// its extension.
func (l *Lookup) program(ctx context.Context, c *compiled, q Question, args []string, address string) policy.Answer {
	r := q.Settings.Policy.Recipients
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	if !c.turn(ctx) {
		l.log.Info("no turn in time", "stage", "ingest", "question", "recipient program")
		return policy.Fault
	}
	defer c.leave()
	a := l.run(ctx, r.Home, args, q.Env(), address)
	if base, ok := qmail.Extension(address); ok && a == policy.No {
		a = l.run(ctx, r.Home, args, q.Env(), base)
	}
	return a
}

// run speaks checkpassword's protocol as recipient checks do: the address and
// three NULs on descriptor 3. It exits 0 for yes, 1 for no; all else is no
// answer. Its other descriptors lead nowhere.
func (l *Lookup) run(ctx context.Context, home string, args, env []string, address string) policy.Answer {
	in, out, err := os.Pipe()
	if err != nil {
		l.log.Warn("recipient program", "stage", "ingest", "err", err)
		return policy.Fault
	}
	defer in.Close()
	// An address is far shorter than what a pipe holds: this doesn't wait.
	_, err = out.WriteString(address + "\x00\x00\x00")
	if err = errors.Join(err, out.Close()); err != nil {
		l.log.Warn("recipient program", "stage", "ingest", "err", err)
		return policy.Fault
	}
	name := args[0]
	if strings.Contains(name, "/") {
		name = from(home, name)
	}
	cmd := exec.CommandContext(ctx, name, args[1:]...)
	cmd.ExtraFiles = []*os.File{in} // descriptor 3
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // its children, too
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return policy.Yes
	case errors.As(err, &exit) && exit.ExitCode() == 1 && ctx.Err() == nil:
		return policy.No
	}
	l.log.Warn("recipient program gave no answer", "stage", "ingest", "path", name, "err", err)
	return policy.Fault
}
