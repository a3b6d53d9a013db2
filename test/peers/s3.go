package peers

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"qstream/test/port"
)

// The only user of an S3 server.
const (
	S3Access = "AKIDEXAMPLE"
	S3Secret = "an/example+of a secret=key"
)

// S3 is a server of others that speaks S3, the Versity gateway, in front of a
// folder. It checks the signature and the hash of each request.
type S3 struct {
	Addr string // host:port, the same after a Start

	t       testing.TB
	program string
	folder  string
	cmd     *exec.Cmd
	log     string
}

// StartS3 starts one without buckets.
func StartS3(t testing.TB) *S3 {
	t.Helper()
	program, err := inCache("bin/versitygw")
	if err != nil {
		t.Fatalf("no S3 server: .ci/install peers (%v)", err)
	}
	addr, err := port.FreeAddr()
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t)
	for _, sub := range []string{"buckets", "notes"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s := &S3{Addr: addr, t: t, program: program, folder: dir, log: filepath.Join(dir, "log")}
	s.Start()
	return s
}

// inCache is what .ci/install put below .cache of the tree that the test is in.
func inCache(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			file := filepath.Join(dir, ".cache", name)
			_, err := os.Stat(file)
			return file, err
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod above the test")
		}
	}
}

// Start starts it again where it was.
func (s *S3) Start() {
	s.t.Helper()
	// What it has to note about objects it notes beside them: not every file
	// system has attributes.
	s.cmd = start(s.t, s.log, s.program, "--access", S3Access, "--secret", S3Secret, "--port", s.Addr, "--keep-alive",
		"posix", "--sidecar", filepath.Join(s.folder, "notes"), filepath.Join(s.folder, "buckets"))
	waitFor(s.t, s.Log, func() error {
		answer, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + s.Addr + "/")
		if err != nil {
			return err
		}
		_ = answer.Body.Close()
		if answer.StatusCode != http.StatusForbidden {
			return fmt.Errorf("it answers %d to nobody", answer.StatusCode)
		}
		return nil
	})
}

// Kill ends it at once, and returns when it is gone.
func (s *S3) Kill() {
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// Log is what it printed.
func (s *S3) Log() string {
	text, _ := os.ReadFile(s.log)
	return string(text)
}

// Bucket makes one.
func (s *S3) Bucket(name string) {
	s.t.Helper()
	if err := os.Mkdir(filepath.Join(s.folder, "buckets", name), 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// Objects are those of a bucket by their keys.
func (s *S3) Objects(bucket string) map[string]string {
	s.t.Helper()
	all, root := map[string]string{}, filepath.Join(s.folder, "buckets", bucket)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, err := filepath.Rel(root, path)
		if err != nil || strings.HasPrefix(key, ".sgwtmp") { // what is being written
			return err
		}
		text, err := os.ReadFile(path)
		all[filepath.ToSlash(key)] = string(text)
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return all
}
