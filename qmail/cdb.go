package qmail

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds of what a cdb may make its reader do.
const (
	maxProbes = 10_000  // records looked at for one key
	MaxValue  = 1 << 20 // octets of a value
)

// ErrCDB is a file that is no cdb, or a damaged or hostile one.
var ErrCDB = errors.New("not a sound cdb")

// CDB looks keys up in D. J. Bernstein's constant database. A file that was
// made to mislead costs one Get at most maxProbes reads and MaxValue octets.
// It is safe for concurrent use if its reader is.
type CDB struct {
	r    io.ReaderAt
	size int64
}

// NewCDB takes a file of size octets.
func NewCDB(r io.ReaderAt, size int64) (*CDB, error) {
	if size < 2048 || size > 1<<32-1 {
		return nil, fmt.Errorf("%w: it has %d octets", ErrCDB, size)
	}
	return &CDB{r, size}, nil
}

// Get is the first value of a key; ok is false if there is none.
func (c *CDB) Get(key string) (value []byte, ok bool, err error) {
	h := cdbHash(key)
	table, slots, err := c.pair(int64(h%256) * 8)
	if err != nil || slots == 0 {
		return nil, false, err
	}
	if int64(table)+int64(slots)*8 > c.size {
		return nil, false, fmt.Errorf("%w: a table is beyond its end", ErrCDB)
	}
	for i := range min(slots, maxProbes) {
		slot := (h/256%slots + i) % slots
		hash, record, err := c.pair(int64(table) + int64(slot)*8)
		if err != nil || record == 0 {
			return nil, false, err
		}
		if hash != h {
			continue
		}
		if value, ok, err = c.record(int64(record), key); ok || err != nil {
			return value, ok, err
		}
	}
	if slots > maxProbes {
		return nil, false, fmt.Errorf("%w: too many records of one hash", ErrCDB)
	}
	return nil, false, nil
}

// record reads a record if it is the key's.
func (c *CDB) record(at int64, key string) (value []byte, ok bool, err error) {
	klen, vlen, err := c.pair(at)
	if err != nil || int64(klen) != int64(len(key)) {
		return nil, false, err
	}
	if vlen > MaxValue || at+8+int64(klen)+int64(vlen) > c.size {
		return nil, false, fmt.Errorf("%w: a record is beyond its end or too long", ErrCDB)
	}
	found, err := c.read(at+8, int(klen))
	if err != nil || string(found) != key {
		return nil, false, err
	}
	value, err = c.read(at+8+int64(klen), int(vlen))
	return value, err == nil, err
}

// pair reads two numbers.
func (c *CDB) pair(at int64) (a, b uint32, err error) {
	p, err := c.read(at, 8)
	if err != nil {
		return 0, 0, err
	}
	return binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[4:]), nil
}

func (c *CDB) read(at int64, n int) ([]byte, error) {
	if at+int64(n) > c.size {
		return nil, fmt.Errorf("%w: it points beyond its end", ErrCDB)
	}
	p := make([]byte, n)
	if _, err := c.r.ReadAt(p, at); err != nil && !(errors.Is(err, io.EOF) && n == 0) {
		return nil, fmt.Errorf("read cdb: %w", err)
	}
	return p, nil
}

// cdbHash is the hash of the format.
func cdbHash(key string) uint32 {
	h := uint32(5381)
	for i := range len(key) {
		h = (h<<5 + h) ^ uint32(key[i])
	}
	return h
}

// AppendCDB appends the cdb of keys and values, in their order.
func AppendCDB(out []byte, pairs ...[2]string) []byte {
	start := len(out)
	out = append(out, make([]byte, 2048)...)
	var tables [256][][2]uint32
	for _, p := range pairs {
		h := cdbHash(p[0])
		tables[h%256] = append(tables[h%256], [2]uint32{h, uint32(len(out) - start)})
		out = appendPair(out, uint32(len(p[0])), uint32(len(p[1])))
		out = append(append(out, p[0]...), p[1]...)
	}
	for i, entries := range tables {
		slots := make([][2]uint32, 2*len(entries))
		for _, e := range entries {
			at := e[0] / 256 % uint32(len(slots))
			for slots[at][1] != 0 {
				at = (at + 1) % uint32(len(slots))
			}
			slots[at] = e
		}
		binary.LittleEndian.PutUint32(out[start+8*i:], uint32(len(out)-start))
		binary.LittleEndian.PutUint32(out[start+8*i+4:], uint32(len(slots)))
		for _, s := range slots {
			out = appendPair(out, s[0], s[1])
		}
	}
	return out
}

func appendPair(out []byte, a, b uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(out, a), b)
}
