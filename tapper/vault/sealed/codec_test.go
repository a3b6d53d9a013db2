package sealed

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	pb "qstream/schemas/qstream/v1"
)

func aTick(pieces ...*pb.Piece) *pb.Tick {
	return &pb.Tick{
		Number: 7, Follows: bytes.Repeat([]byte{1}, idSize), Writer: bytes.Repeat([]byte{2}, idSize), WrittenMs: 1_763_900_000_000,
		SweepNumber: 3, SweepOffset: 12, Pieces: pieces, NewestKey: 2, NewestKeyPrint: bytes.Repeat([]byte{3}, printSize),
	}
}

// Whatever a tick says, its record is as long as any other's.
func TestEveryRecordIsOfOneSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(leastSize, 8192).Draw(t, "size")
		c := newCodec("topic", nKeys(t, 2))
		want := -1
		for range 3 {
			tick := aTick()
			tick.Number = rapid.Uint64Range(2, 1<<63).Draw(t, "number")
			tick.SweepOffset = rapid.Int64().Draw(t, "offset")
			left := room(size)
			for left > pieceFixed && rapid.Bool().Draw(t, "more") {
				n := rapid.IntRange(0, left-pieceFixed).Draw(t, "length")
				tick.Pieces = append(tick.Pieces, &pb.Piece{Data: rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "data"), Continued: true, More: true})
				left -= pieceFixed + n
			}
			value, err := c.seal(tick, size, 2)
			if err != nil {
				t.Fatal(err)
			}
			if want < 0 {
				want = len(value)
			}
			if len(value) != want || want > size || want < size-1 {
				t.Fatalf("%d bytes, the others had %d, asked for %d", len(value), want, size)
			}
			back, _, err := c.open(value)
			if err != nil || !proto.Equal(back, tick) {
				t.Fatalf("opens to %v (%v), want %v", back, err, tick)
			}
		}
	})
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	c := newCodec("topic", nKeys(t, 2))
	value, err := c.seal(aTick(&pb.Piece{Data: []byte("entry")}), leastSize, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i := range value {
		for bit := range 8 {
			bad := bytes.Clone(value)
			bad[i] ^= 1 << bit
			if got, _, err := c.open(bad); err == nil {
				t.Fatalf("bit %d of byte %d changed, and it opens to %v", bit, i, got)
			}
		}
	}
	for i := range value {
		if _, _, err := c.open(value[:i]); err == nil {
			t.Fatalf("cut to %d bytes it opens", i)
		}
	}
}

func TestKeysOpenWhatIsTheirs(t *testing.T) {
	old, both, other := nKeys(t, 1), nKeys(t, 2), nKeys(t, 1)
	other.keys[1] = [keySize]byte{9}
	seal := func(k *Keys, topic string) []byte {
		value, err := newCodec(topic, k).seal(aTick(), leastSize, k.top())
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	for _, tt := range []struct {
		name  string
		keys  *Keys
		value []byte
		want  error
	}{
		{"its own", old, seal(old, "topic"), nil},
		{"an older key's", both, seal(old, "topic"), nil},
		{"a newer key's", old, seal(both, "topic"), ErrGarbage}, // or nobody's
		{"another vault's", other, seal(old, "topic"), ErrGarbage},
		{"another topic's", old, seal(old, "another"), ErrGarbage},
		{"nothing", old, nil, ErrGarbage},
	} {
		if _, _, err := newCodec("topic", tt.keys).open(tt.value); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadKeys(dir); err == nil {
		t.Error("an empty folder is a vault")
	}
	for want := uint32(1); want <= 3; want++ {
		if n, err := AddKey(dir); err != nil || n != want {
			t.Fatalf("key %d, %v, want %d", n, err, want)
		}
	}
	keys, err := ReadKeys(dir)
	if err != nil || len(keys.keys) != 3 || keys.newest != 3 || keys.keys[1] == keys.keys[2] {
		t.Fatalf("%v, %v", keys, err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 3 {
		t.Errorf("%v is there (%v), want the keys alone", left, err)
	}
	for _, spoil := range []func(string) error{
		func(name string) error { return os.Chmod(name, 0o640) },
		func(name string) error { return os.Truncate(name, 31) },
		func(name string) error { return os.Rename(name, filepath.Join(filepath.Dir(name), "key.2")) },
	} {
		dir := t.TempDir()
		if _, err := AddKey(dir); err != nil {
			t.Fatal(err)
		}
		if err := spoil(filepath.Join(dir, "key.1")); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKeys(dir); err == nil {
			t.Error("a key that others may read, that is short, or before which one is missing, is taken")
		}
	}
}

func FuzzOpen(f *testing.F) {
	c := newCodec("topic", nKeys(f, 1))
	value, err := c.seal(aTick(&pb.Piece{Data: []byte("entry")}), leastSize, 1)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add([]byte{13, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if tick, _, err := c.open(b); err == nil && !bytes.Equal(b, value) {
			// Protobuf knows several forms of one message; what is sealed in it
			// must still be ours.
			if tick.Number != 7 {
				t.Fatalf("opens to %v", tick)
			}
		}
	})
}
