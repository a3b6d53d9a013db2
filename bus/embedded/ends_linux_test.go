package embedded

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sys/unix"

	"qstream/bus"
	"qstream/schemas"
)

// No transaction ends by halves: while the disk is full it stays open, and
// ends as if nothing had been once there is room.
func TestFullDiskPutsEndsOff(t *testing.T) {
	disk := smallDisk(t)
	k, b := dialShort(t, Config{Dir: filepath.Join(disk, "data"), MinFree: 1})
	defer k.Close()
	defer b.Close()
	if _, err := b.CreateTopics(t.Context(), schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	cl := transact(t, k)
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: schemas.Received, Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(disk, "filler")
	leave(t, disk, filler, endRoom/2)
	ended := make(chan error, 1)
	go func() { ended <- cl.EndTransaction(t.Context(), kgo.TryCommit) }()

	// Neither does another end it, who takes the id over.
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	other := transact(t, k)
	if _, _, err := other.ProducerID(short); err == nil {
		t.Error("taken over on a full disk")
	} else if !errors.Is(err, kerr.ConcurrentTransactions) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("take-over on a full disk: %v", err)
	}
	other.Close() // or it would ask again, and take over before the end
	select {
	case err := <-ended:
		t.Errorf("ended on a full disk: %v", err)
	default:
	}

	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("end once there is room: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("not ended 20 s after there was room")
	}
}

// Who stops while the disk is full is not held up until there is room: what
// was begun is kept by the log, and made again after the next start.
func TestFullDiskHoldsUpNoStop(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("gives up on a transaction, which takes its time")
	}
	disk := smallDisk(t)
	stands := make(standing, 1)
	k, b := dialShort(t, Config{Dir: filepath.Join(disk, "data"), MinFree: 1, Log: slog.New(stands)})
	defer k.Close()
	defer b.Close()
	if _, err := b.CreateTopics(t.Context(), schemas.FixedTopics(), bus.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	r := &bus.Record{Topic: schemas.Received, Partition: bus.AnyPartition, Key: []byte("k"), Value: []byte("v")}
	if err := b.Publish(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	leave(t, disk, filepath.Join(disk, "filler"), endRoom/2)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() {
		ended <- b.Transform(ctx, "qstream.router", bus.NewTopics(schemas.Received),
			func(context.Context, []byte, bus.Record) ([]bus.Record, []byte, error) { return nil, nil, nil })
	}()
	select {
	case <-stands:
	case err := <-ended:
		t.Fatalf("ended by itself: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("no transaction was put off within 30 s")
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("stop: %v", err)
		}
	case <-time.After(90 * time.Second):
		t.Fatal("still there 90 s after the stop")
	}
}

// standing is a log that tells when mail stands still.
type standing chan struct{}

func (standing) Enabled(context.Context, slog.Level) bool { return true }
func (s standing) WithAttrs([]slog.Attr) slog.Handler     { return s }
func (s standing) WithGroup(string) slog.Handler          { return s }
func (s standing) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "mail stands still") {
		select {
		case s <- struct{}{}:
		default:
		}
	}
	return nil
}

func transact(t *testing.T, k *Broker) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.Seeds()...), kgo.TransactionalID("t"))
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// leave fills the disk until it has so many bytes.
func leave(t *testing.T, disk, filler string, left int64) {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(disk, &s); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filler, make([]byte, int64(s.Bavail)*s.Bsize-left), 0o600); err != nil {
		t.Fatal(err)
	}
}
