package sealed

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/crypto/chacha20poly1305"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

// endMark ends a tick before the zeros that fill it up.
const endMark = 0x80

const (
	// sealedFixed are the bytes of a Sealed beside the box and its length:
	// number of the key, nonce, tag of the box.
	sealedFixed = 1 + 4 + 1 + 1 + chacha20poly1305.NonceSizeX + 1
	// tickFixed are the bytes of a Tick beside its pieces, at most.
	tickFixed = 2*(2+idSize) + 4*(1+binary.MaxVarintLen64) + 1 + binary.MaxVarintLen32 + 2 + printSize + 1
	// pieceFixed are the bytes of a piece beside its data, at most.
	pieceFixed = 1 + 3 + 1 + 3 + 2 + 2
)

// Cost is how much of a record's room an entry takes.
func Cost(entry []byte) int { return len(entry) + pieceFixed }

// codec seals and opens the records of one topic. Safe for concurrent use.
type codec struct {
	topic string
	keys  *Keys

	mu    sync.Mutex
	aeads map[[keySize]byte]cipher.AEAD
}

func newCodec(topic string, keys *Keys) *codec {
	return &codec{topic: topic, keys: keys, aeads: map[[keySize]byte]cipher.AEAD{}}
}

// aead is the cipher of a key for this topic.
func (c *codec) aead(number uint32) (cipher.AEAD, error) {
	key, ok := c.keys.key(number)
	if !ok {
		return nil, fmt.Errorf("key %d is not there", number)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a, ok := c.aeads[key]; ok {
		return a, nil
	}
	derived, err := hkdf.Key(sha256.New, key[:], nil, "qstream sealed log "+c.topic, chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("derive the log's key: %w", err)
	}
	a, err := chacha20poly1305.NewX(derived)
	if err != nil {
		return nil, fmt.Errorf("make the log's cipher: %w", err)
	}
	c.aeads[key] = a
	return a, nil
}

// bound is what a box is sealed with beside its text.
func (c *codec) bound(number uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte(c.topic), number)
}

// boxSize is how long the box of a record of size bytes is.
func boxSize(size int) int {
	n := size - sealedFixed - 1
	for n+protowire.SizeVarint(uint64(n)) > size-sealedFixed {
		n--
	}
	return n
}

// room is how many bytes a record of size bytes has for pieces.
func room(size int) int { return boxSize(size) - chacha20poly1305.Overhead - 1 - tickFixed }

// seal makes a value of size bytes with the key of a number; of the few sizes
// that no box fits, one less.
func (c *codec) seal(t *pb.Tick, size int, number uint32) ([]byte, error) {
	plain := make([]byte, 0, boxSize(size))
	plain, err := proto.MarshalOptions{}.MarshalAppend(plain, t)
	if err != nil {
		return nil, fmt.Errorf("encode the tick: %w", err)
	}
	full := boxSize(size) - chacha20poly1305.Overhead
	if len(plain)+1 > full {
		return nil, fmt.Errorf("a tick of %d bytes has no room in a record of %d", len(plain), size)
	}
	plain = append(plain, endMark)
	plain = append(plain, make([]byte, full-len(plain))...)
	a, err := c.aead(number)
	if err != nil {
		return nil, fmt.Errorf("seal the tick: %w", err)
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	_, _ = rand.Read(nonce) // never fails
	box := a.Seal(plain[:0], nonce, plain, c.bound(number))
	value, err := proto.Marshal(&pb.Sealed{Key: number, Nonce: nonce, Box: box})
	if err != nil {
		return nil, fmt.Errorf("encode the record: %w", err)
	}
	return value, nil
}

// open reads a value; by: the number of its key. The error is ErrGarbage, also
// where it claims a key that isn't known: anybody may claim that.
func (c *codec) open(value []byte) (t *pb.Tick, by uint32, err error) {
	s := &pb.Sealed{}
	if err := proto.Unmarshal(value, s); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrGarbage, err)
	}
	if s.Key == 0 || len(s.Nonce) != chacha20poly1305.NonceSizeX {
		return nil, 0, fmt.Errorf("%w: not sealed", ErrGarbage)
	}
	a, err := c.aead(s.Key)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrGarbage, err)
	}
	plain, err := a.Open(nil, s.Nonce, s.Box, c.bound(s.Key))
	if err != nil {
		return nil, 0, fmt.Errorf("%w: key %d doesn't open it: %w", ErrGarbage, s.Key, err)
	}
	end := len(plain) - 1
	for end >= 0 && plain[end] == 0 {
		end--
	}
	if end < 0 || plain[end] != endMark {
		return nil, 0, fmt.Errorf("%w: a tick without an end", ErrGarbage)
	}
	t = &pb.Tick{}
	if err := proto.Unmarshal(plain[:end], t); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrGarbage, err)
	}
	t.NewestKey = max(t.NewestKey, s.Key)
	if t.Number == 0 || len(t.Writer) != idSize || t.Number > 1 && len(t.Follows) != idSize {
		return nil, 0, fmt.Errorf("%w: %w", ErrGarbage, errors.New("a tick without number, writer or predecessor"))
	}
	return t, s.Key, nil
}

// idOf names a record by its value.
func idOf(value []byte) [idSize]byte {
	sum := sha256.Sum256(value)
	return [idSize]byte(sum[:idSize])
}
