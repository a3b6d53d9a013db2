package peer

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// isolated marks the process that runs in the namespaces.
const isolated = "QSTREAM_BENCH_ISOLATED"

// Isolate runs this program again in a network and a mount namespace of its
// own, and ends with its exit code; there it returns at once. In them are only
// loopback, a hosts file with localhost, and a name service on 127.0.0.1:53:
// no look-up leaves the machine or waits, and every address of 127.0.0.0/8 and
// every port is free. It is called first of all, and needs root.
func Isolate() error {
	if os.Getenv(isolated) != "" {
		return furnish()
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), isolated+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	// The child gets the terminal's signals too and stops its peers; this
	// process waits for it.
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("namespaces, which need root: %w", err)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err := cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	os.Exit(max(cmd.ProcessState.ExitCode(), 0))
	return nil
}

// furnish fits the namespaces out.
func furnish() error {
	if err := raiseLoopback(); err != nil {
		return fmt.Errorf("raise loopback: %w", err)
	}
	dir, err := os.MkdirTemp("", "qstream-bench-etc-")
	if err != nil {
		return err
	}
	// The mounts keep the files.
	defer os.RemoveAll(dir)
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	for name, text := range map[string]string{
		"hosts":       "127.0.0.1 localhost " + host + "\n",
		"resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			return err
		}
		// /etc/resolv.conf may be a link: the mount goes to what it names.
		target, err := filepath.EvalSymlinks("/etc/" + name)
		if err != nil {
			return err
		}
		if err := unix.Mount(file, target, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", target, err)
		}
	}
	return nil
}

func raiseLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
