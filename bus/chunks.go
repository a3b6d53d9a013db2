package bus

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"fmt"
	"hash"
	"sync"
)

const (
	// chunkBytes bounds the chunks that are kept in memory where the broker is
	// in this process: who stores content is who reads it there.
	chunkBytes = 32 << 20
	// chunksKept is how many first chunks of a message are kept, so that a
	// large one leaves room for others.
	chunksKept = 8
)

// hashed tells what a hash came to over a chunk: its states before and behind
// it. Whoever is at the first after what he has read is at the second after
// the chunk, as long as its bytes are the very ones that were hashed.
type hashed struct{ before, after []byte }

// digest is a SHA-256 that takes the work of others over. The state rules
// while there is one.
type digest struct {
	hash  hash.Hash
	state []byte
}

// unwritten is the state over nothing.
var unwritten = sync.OnceValue(func() []byte { return stateOf(sha256.New()) })

func newDigest() digest { return digest{hash: sha256.New(), state: unwritten()} }

// stateOf needs a hash of this library.
func stateOf(h hash.Hash) []byte {
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(fmt.Sprintf("state of SHA-256: %v", err)) // it has no errors
	}
	return state
}

// skip goes over data that was hashed from the same state; false: write it.
func (d *digest) skip(by *hashed) bool {
	if by == nil || d.state == nil || !bytes.Equal(d.state, by.before) {
		return false
	}
	d.state = by.after
	return true
}

func (d *digest) write(p []byte) {
	d.resume()
	d.hash.Write(p)
}

func (d *digest) sum() []byte {
	d.resume()
	return d.hash.Sum(nil)
}

func (d *digest) resume() {
	if d.state == nil {
		return
	}
	if err := d.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(d.state); err != nil {
		panic(fmt.Sprintf("state of SHA-256: %v", err)) // ours
	}
	d.state = nil
}

// take hashes data and tells what it came to.
func (d *digest) take(p []byte) *hashed {
	before := d.state
	if before == nil {
		before = stateOf(d.hash)
	}
	d.write(p)
	d.state = stateOf(d.hash)
	return &hashed{before, d.state}
}

// keep remembers a chunk that was just stored: its data, and what the hash
// came to over it.
func (w *Blob) keep(at place, data []byte, by *hashed) {
	if data == nil || w.number > chunksKept {
		return
	}
	w.b.chunks.put(&cached{at: at, id: w.id, content: data, hashed: by})
	w.kept = append(w.kept, at)
}

// drop forgets what was kept of content that nobody will ask for.
func (w *Blob) drop() {
	for _, at := range w.kept {
		w.b.chunks.drop(at)
	}
	w.kept = nil
}
