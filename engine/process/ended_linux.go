package process

import "golang.org/x/sys/unix"

// ended waits until a child has ended, without freeing its number.
func ended(pid int) bool {
	for {
		var info unix.Siginfo
		if err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			return err == nil
		}
	}
}
