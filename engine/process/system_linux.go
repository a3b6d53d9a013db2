package process

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes are a group of its own, and the kernel's word to kill the program
// when the thread that forked it ends, however that comes.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// ended waits until a child has ended, without freeing its number.
func ended(pid int) bool {
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return err == nil
		}
	}
}
