package embedded

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"qstream/bus"
	"qstream/schemas"
)

// smallDisk is a file system of its own, of 24 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Skipf("can't mount a small file system here: %v", err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	return dir
}

// unmount finds that nothing is open there any more, in time: a process that
// another test starts has our files until it runs its program.
func unmount(t *testing.T, dir string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Unmount(dir, 0)
		if err == nil {
			return
		}
		if !errors.Is(err, unix.EBUSY) || time.Now().After(end) {
			t.Errorf("unmount: %v", err)
			return
		}
	}
}

// fill publishes until the broker refuses.
func fill(t *testing.T, b *bus.Bus) (told []string, err error) {
	t.Helper()
	for i := range 100_000 {
		id := fmt.Sprintf("fill-%d-%d", time.Now().UnixNano(), i)
		r := &bus.Record{Topic: schemas.Received, Partition: bus.AnyPartition, Key: []byte(id), Value: noise(200 << 10)}
		if err := b.Publish(t.Context(), r); err != nil {
			return told, err
		}
		told = append(told, id)
	}
	t.Fatal("the disk never filled")
	return nil, nil
}

// noise doesn't compress.
func noise(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(rand.Uint32())
	}
	return p
}

func TestFullDiskRecoversByItself(t *testing.T) {
	t.Parallel()
	for name, spare := range map[string]int64{"to the last byte": 1, "with some to spare": 8 << 20} {
		t.Run(name, func(t *testing.T) {
			disk := smallDisk(t)
			filler := filepath.Join(disk, "filler")
			if err := os.WriteFile(filler, make([]byte, 8<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			dir := filepath.Join(disk, "data")
			k, b := dialShort(t, Config{Dir: dir, MinFree: spare})
			if _, err := b.CreateTopics(t.Context(), schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			told, err := fill(t, b)
			t.Logf("%d records, then: %v", len(told), err)
			if full := errors.Is(err, bus.ErrFull); full != (spare > 1) {
				t.Errorf("typed as full: %v", full)
			}
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			for started := time.Now(); ; {
				r := received(1)
				if err = b.Publish(t.Context(), r); err == nil {
					told = append(told, string(r.Key))
					break
				}
				if time.Since(started) > 30*time.Second {
					t.Fatalf("no recovery: %v", err)
				}
			}
			b.Close()
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			if lost := missing(told, stands(t, dir)); lost > 0 {
				t.Errorf("%d of %d acknowledged records lost", lost, len(told))
			}
		})
	}
}

func dialShort(t *testing.T, cfg Config) (*Broker, *bus.Bus) {
	t.Helper()
	k, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bus.Dial(bus.Config{Seeds: k.Seeds(), Barrier: k.Barrier, Admit: k.Admit, Timeout: 3 * time.Second, Release: 2 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return k, b
}
