package qmail

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

func openCDB(t interface{ Fatal(...any) }, data []byte) *CDB {
	c, err := NewCDB(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What is written is found, the first of equal keys, and nothing else.
func TestCDB(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pairs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) [2]string {
			return [2]string{rapid.StringN(0, 3, 3).Draw(t, "key"), rapid.String().Draw(t, "value")}
		}), 0, 50).Draw(t, "pairs")
		first := map[string]string{}
		for _, p := range pairs {
			if _, ok := first[p[0]]; !ok {
				first[p[0]] = p[1]
			}
		}
		c := openCDB(t, AppendCDB(nil, pairs...))
		for k, want := range first {
			if got, ok, err := c.Get(k); err != nil || !ok || string(got) != want {
				t.Errorf("%q: %q, %v, %v; want %q", k, got, ok, err, want)
			}
		}
		absent := rapid.String().Draw(t, "absent")
		if _, held := first[absent]; !held {
			if _, ok, err := c.Get(absent); ok || err != nil {
				t.Errorf("%q: %v, %v", absent, ok, err)
			}
		}
	})
}

// The layout is the format's own: the hash, and where the first record stands.
func TestCDBLayout(t *testing.T) {
	data := AppendCDB(nil, [2]string{"one", "Hello"})
	if string(data[2048:2064]) != "\x03\x00\x00\x00\x05\x00\x00\x00oneHello" {
		t.Errorf("%q", data[2048:])
	}
	if len(data) != 2048+16+16 || cdbHash("one") != 0x0b875b81 {
		t.Errorf("%d octets, hash %#x", len(data), cdbHash("one"))
	}
}

func TestHostileCDB(t *testing.T) {
	if _, err := NewCDB(bytes.NewReader(nil), 0); !errors.Is(err, ErrCDB) {
		t.Error(err)
	}
	far := make([]byte, 2048)
	for i := 0; i < 2048; i += 8 {
		binary.LittleEndian.PutUint32(far[i:], 0xfffffff0)
		binary.LittleEndian.PutUint32(far[i+4:], 0xffffffff)
	}
	if _, _, err := openCDB(t, far).Get("x"); !errors.Is(err, ErrCDB) {
		t.Error(err)
	}
	// A table whose slots all claim the key's hash, and point at one record.
	h := cdbHash("x")
	same := make([]byte, 2048, 1<<20)
	same = append(appendPair(same, 1, 0), 'y')
	binary.LittleEndian.PutUint32(same[h%256*8:], uint32(len(same)))
	binary.LittleEndian.PutUint32(same[h%256*8+4:], 100_000)
	for range 100_000 {
		same = appendPair(same, h, 2048)
	}
	if _, _, err := openCDB(t, same).Get("x"); !errors.Is(err, ErrCDB) {
		t.Error(err)
	}
	// A value longer than anybody needs.
	long := AppendCDB(nil, [2]string{"x", string(make([]byte, MaxValue+1))})
	if _, _, err := openCDB(t, long).Get("x"); !errors.Is(err, ErrCDB) {
		t.Error(err)
	}
}

func FuzzCDB(f *testing.F) {
	f.Add(AppendCDB(nil, [2]string{":a@b", ""}), ":a@b")
	f.Fuzz(func(t *testing.T, data []byte, key string) {
		c, err := NewCDB(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		value, ok, _ := c.Get(key)
		if ok && !bytes.Contains(data, append([]byte(key), value...)) {
			t.Errorf("%q is not in the file", value)
		}
	})
}

func ExampleCDB() {
	data := AppendCDB(nil, [2]string{RecipientKey("Bob@acme.example"), ""})
	c, _ := NewCDB(bytes.NewReader(data), int64(len(data)))
	_, ok, _ := c.Get(":bob@acme.example")
	fmt.Println(ok)
	// Output: true
}
