package kafka

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Version of Apache Kafka that is installed; pom.xml names the same.
const Version = "4.3.0"

// ErrUnavailable is wrapped by Install where Kafka can't be had: no Java, or
// neither a cached copy nor Maven.
var ErrUnavailable = errors.New("no Apache Kafka here")

// Install makes sure that Kafka's jars are in the cache (QSTREAM_CACHE, else
// .cache in the repository's root) and returns their folder. Maven fetches
// them the first time; processes that install at once wait for each other.
func Install(ctx context.Context) (string, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return "", fmt.Errorf("%w: java: %w", ErrUnavailable, err)
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	cache := os.Getenv("QSTREAM_CACHE")
	if cache == "" {
		cache = filepath.Join(root, ".cache")
	}
	libs := filepath.Join(cache, "kafka-"+Version)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(libs + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(libs); err == nil {
		return libs, nil
	}
	return libs, fetch(ctx, filepath.Join(root, "test", "kafka", "pom.xml"), libs)
}

// fetch lets Maven copy the jars; the folder appears only when it is whole.
func fetch(ctx context.Context, pom, libs string) error {
	partial := libs + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory="+partial)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: mvn: %w\n%s", ErrUnavailable, err, out)
	}
	return os.Rename(partial, libs)
}

// lock holds a file lock until the returned function is called.
func lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil
}

// Root is the repository's root: the nearest folder upwards with a go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod in this folder or above")
		}
		dir = up
	}
}
