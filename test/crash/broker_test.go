package crash

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"qstream/test/fakemx"
	"qstream/test/rig"
)

// TestBrokerKilled kills one of three brokers under load, then brings it
// back: clients see 250 or 4xx only.
func TestBrokerKilled(t *testing.T) {
	each(t, "kafka3", "", func(t *testing.T, broker string) {
		tr := start(t, broker, false, fakemx.Config{})
		tr.begin(10, 50, 0)
		time.Sleep(3 * time.Second)
		b := tr.Kafka.Brokers[1]
		must(t, b.Kill())
		time.Sleep(20 * time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), rig.Patience)
		defer cancel()
		must(t, b.Start(ctx))
		time.Sleep(3 * time.Second)
		tr.end()
		tr.settle("one of three brokers killed", 0)
	})
}

// TestQuorumLost kills two of three brokers: 451, then recovery by itself. The
// worker is cut off until its session is lost, so that what was past the final
// dot just then may come again.
func TestQuorumLost(t *testing.T) {
	each(t, "kafka3", "", func(t *testing.T, broker string) {
		tr := start(t, broker, false, fakemx.Config{})
		tr.begin(10, 20, 0)
		time.Sleep(3 * time.Second)
		for _, b := range tr.Kafka.Brokers[:2] {
			must(t, b.Kill())
		}
		time.Sleep(25 * time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 2*rig.Patience)
		defer cancel()
		for _, b := range tr.Kafka.Brokers[:2] {
			must(t, b.Start(ctx))
		}
		before := tr.load.Accepted()
		waitFor(t, "mail to be accepted again", func() bool { return tr.load.Accepted() > before+20 })
		tr.end()
		tr.settle("quorum lost for 25 s", inFlight)
		if !refusedWith(tr, "451") {
			t.Error("nobody was answered 451")
		}
	})
}

// TestBrokerFrozen freezes the only broker after it got a record: the edge's
// own timer answers 451 within 15 s.
func TestBrokerFrozen(t *testing.T) {
	each(t, "kafka1", "", func(t *testing.T, broker string) {
		tr := start(t, broker, false, fakemx.Config{})
		tr.begin(3, 20, 0)
		time.Sleep(2 * time.Second)
		must(t, tr.Kafka.Brokers[0].Freeze())
		began := time.Now()
		waitFor(t, "a 451", func() bool { return refusedWith(tr, "451") })
		took := time.Since(began)
		must(t, tr.Kafka.Brokers[0].Thaw())
		time.Sleep(2 * time.Second)
		tr.end()
		tr.settle("broker frozen", inFlight)
		t.Logf("451 after %v", took.Round(100*time.Millisecond))
		if took > 25*time.Second {
			t.Errorf("451 came after %v, wanted 15 s", took)
		}
	})
}

func refusedWith(tr *trial, code string) bool {
	for reply := range tr.load.Refused() {
		if strings.HasPrefix(reply, code) {
			return true
		}
	}
	return false
}

// TestDiskFull fills the file system under the embedded broker and frees it.
func TestDiskFull(t *testing.T) {
	each(t, "embedded", "", func(t *testing.T, broker string) {
		if os.Getuid() != 0 {
			t.Skip("needs root to mount a small file system")
		}
		work := t.TempDir()
		data := filepath.Join(work, "data")
		must(t, os.Mkdir(data, 0o755))
		must(t, syscall.Mount("tmpfs", data, "tmpfs", 0, "size=96m"))
		t.Cleanup(func() { _ = syscall.Unmount(data, syscall.MNT_DETACH) })
		tr := startIn(t, work, broker, fakemx.Config{})
		tr.begin(5, 50, 0)
		waitFor(t, "the first mails", func() bool { return tr.load.Accepted() > 20 })
		ballast := filepath.Join(data, "ballast")
		fill(t, ballast)
		waitFor(t, "a 45x", func() bool { return refusedWith(tr, "45") })
		must(t, os.Remove(ballast))
		before := tr.load.Accepted()
		waitFor(t, "mail to be accepted again", func() bool { return tr.load.Accepted() > before+20 })
		tr.end()
		tr.settle("disk full", 0)
	})
}

// fill writes a file until nothing more fits.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for size := 1 << 20; size >= 512; size /= 2 {
		for {
			if _, err := f.Write(make([]byte, size)); err != nil {
				break
			}
		}
	}
}
