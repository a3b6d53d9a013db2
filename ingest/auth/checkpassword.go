package auth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxAsk is what a checkpassword program reads.
const maxAsk = 512

// ask asks the checkpassword program (http://cr.yp.to/checkpwd/interface.html):
// user, password and a time stamp on descriptor 3, each ended by a NUL. Exit
// code 0 is yes, 1 is no; 2 (misused), 111 (trouble) and all else are trouble
// of ours.
func (x *Exchange) ask(user, password string) error {
	a := x.a
	now := a.deps.Now()
	words := user + "\x00" + password + "\x00" + strconv.FormatInt(now.Unix(), 10) + "\x00"
	if len(words) > maxAsk || strings.Count(words, "\x00") != 3 {
		return fmt.Errorf("%w: not in form", ErrRejected)
	}
	timer := time.NewTimer(a.cfg.Wait)
	defer timer.Stop()
	select {
	case a.programs <- struct{}{}:
	case <-timer.C:
		return ErrBusy
	case <-x.ctx.Done():
		return ErrBusy
	}
	defer func() { <-a.programs }()
	ctx, cancel := context.WithTimeout(x.ctx, a.cfg.ProgramTimeout)
	defer cancel()
	code, err := runProgram(ctx, a.cfg.Program, []byte(words), []string{"PATH=" + os.Getenv("PATH"), "PROTO=TCP", "TCPREMOTEIP=" + x.client.Addr.Unmap().String()})
	switch {
	case err != nil:
		return fmt.Errorf("checkpassword program: %w", err)
	case code == 1:
		return fmt.Errorf("%w: the program says no", ErrRejected)
	case code != 0:
		return fmt.Errorf("checkpassword program: exit code %d", code)
	}
	return nil
}

// runProgram runs a program to its end, or ends it and its children with ctx.
func runProgram(ctx context.Context, program []string, words []byte, env []string) (code int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer w.Close()
	c := exec.CommandContext(ctx, program[0], program[1:]...)
	c.ExtraFiles = []*os.File{r} // descriptor 3
	c.Env = env
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second
	// The words fit into the pipe: nothing waits for a program that reads none.
	if _, err := w.Write(words); err != nil {
		r.Close()
		return 0, err
	}
	w.Close()
	err = c.Start()
	r.Close()
	if err != nil {
		return 0, err
	}
	err = c.Wait()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return 0, fmt.Errorf("ended: %w", ctx.Err())
	case errors.As(err, &exit) && exit.Exited():
		return exit.ExitCode(), nil
	}
	return 0, err
}
