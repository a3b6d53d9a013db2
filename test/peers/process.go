package peers

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// start starts a program that ends with the test; what it prints goes to the
// file out.
func start(t testing.TB, out, name string, args ...string) *exec.Cmd {
	t.Helper()
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = f, f
	if err := c.Start(); err != nil {
		t.Fatalf("%s is not installed: %v", name, err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGCONT)
		_ = c.Process.Signal(syscall.SIGTERM)
		ended := make(chan struct{})
		go func() { _ = c.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = c.Process.Kill()
			<-ended
		}
	})
	return c
}

// Small is a new folder with room for a megabyte. Where none can be made, the
// test is skipped.
func Small(t testing.TB) string {
	t.Helper()
	dir := folder(t)
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m,mode=1777"); err != nil {
		t.Skipf("no small file system can be made here: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// waitFor waits until a server is ready.
func waitFor(t testing.TB, log func() string, ready func() error) {
	t.Helper()
	var last error
	for end := time.Now().Add(90 * time.Second); time.Now().Before(end); time.Sleep(30 * time.Millisecond) {
		if last = ready(); last == nil {
			return
		}
	}
	t.Fatalf("not ready: %v\n%s", last, log())
}
