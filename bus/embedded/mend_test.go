package embedded

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"qstream/bus"
	"qstream/schemas"
)

// entry is one of a state log.
func entry(text string) []byte {
	body := append([]byte{1, 0}, text...)
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(body)))
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(body, castagnoli))
	return append(head, body...)
}

func TestWhole(t *testing.T) {
	two := append(entry("one"), entry("two")...)
	for name, c := range map[string]struct {
		raw  []byte
		want int
	}{
		"nothing":             {nil, 0},
		"whole":               {two, len(two)},
		"a byte short":        {two[:len(two)-1], len(entry("one"))},
		"half a head":         {append(entry("one"), 7, 0, 0), len(entry("one"))},
		"zeros":               {append(entry("one"), make([]byte, 64)...), len(entry("one"))},
		"a wrong byte":        {append(entry("one"), append(entry("two")[:9], 'x', 'x', 'x', 'x')...), len(entry("one"))},
		"whole after a tear":  {append(append(entry("one"), entry("two")[:5]...), entry("three")...), len(entry("one"))},
		"a length beyond all": {append(entry("one"), 255, 255, 255, 255, 1, 2, 3, 4, 5), len(entry("one"))},
	} {
		if got := whole(c.raw); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func FuzzWhole(f *testing.F) {
	f.Add(append(entry("one"), entry("two")[:5]...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		n := whole(raw)
		if n < 0 || n > len(raw) || whole(raw[:n]) != n {
			t.Fatalf("%d of %d bytes, then %d", n, len(raw), whole(raw[:n]))
		}
	})
}

// TestWriteThatFailsIsMended is a disk that gets full in the middle of an
// entry: what is written after it stands.
func TestWriteThatFailsIsMended(t *testing.T) {
	dir := t.TempDir()
	log, index := filepath.Join(dir, "groups.log"), filepath.Join(dir, "0.idx")
	for path, text := range map[string][]byte{log: append(entry("one"), entry("two")[:7]...), index: make([]byte, 2*indexEntry+4)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := mendWritten([]any{"topic", 3, error(&fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC})}); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]int{log: len(entry("one")), index: 2 * indexEntry} {
		if st, err := os.Stat(path); err != nil || st.Size() != int64(want) {
			t.Errorf("%s: %v, %v, want %d", path, st.Size(), err, want)
		}
	}
	if err := mendWritten([]any{errors.New("another failure")}); err != nil {
		t.Error(err)
	}
}

// TestProgressAfterATornEndIsKept tears the log of groups' progress, as a
// power loss or a full disk does, and kills the broker after a later commit.
func TestProgressAfterATornEndIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	killed(t, dir, 0, 20)
	log := filepath.Join(dataDir(dir), "groups.log")
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte{200, 0, 0, 0, 1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	f.Close()
	k, b := open(t, Config{Dir: dir, MinFree: 1})
	// A topic that is new has a commit of its own for its group.
	queue := schemas.QueueTopics("later", 1, schemas.DefaultPool, 1)
	if _, err := b.CreateTopics(t.Context(), queue, bus.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if n := whole(raw); n != len(raw) || n == 0 {
		t.Errorf("%d of %d bytes of progress can be read after a kill", n, len(raw))
	}
}

// TestHalfEndedTransactionEndsTheProcess shows that the broker's word for it
// is understood; chaos shows that nothing is lost (full disks, E).
func TestHalfEndedTransactionEndsTheProcess(t *testing.T) {
	var failed []error
	l := logger{slog.New(slog.DiscardHandler), func(err error) { failed = append(failed, err) }}
	l.Logf(kfake.LogLevelWarn, "persist batch %s-%d: %v", "topic", 3, errors.New("full"))
	if len(failed) != 0 {
		t.Errorf("a batch that is refused ends the process: %v", failed)
	}
	l.Logf(kfake.LogLevelError, "endTx: failed to persist control batch for %s p%d pid %d", "topic", 3, 17)
	if len(failed) != 1 {
		t.Errorf("%d calls of Fail, want 1", len(failed))
	}
}
