// Package chain makes it evident when a log is not what it was: each record has
// a hash, the records of an interval a tree of them, each partition's intervals
// a chain, and all chains' heads one signature now and then, the checkpoint.
//
// Guarantee: two different records, also of the same bytes at another place or
// time, have different hashes. Guarantee: who holds the checkpoints alone can
// tell whether a record stood in its place, from the record and some hashes.
//
// Trees are those of RFC 6962 2.1, SHA-256 throughout. The package is pure.
package chain

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/proto"

	pb "qstream/schemas/qstream/v1"
)

// Hash is a SHA-256.
type Hash = tlog.Hash

// Header is a record header.
type Header struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// Leaf is what a record's hash is made of.
type Leaf struct {
	Topic     string
	Partition int32
	Offset    int64
	AtMs      int64 // append time, Unix milliseconds
	Key       []byte
	Headers   []Header
	Value     Hash // SHA-256 of the value
}

// Hash is the record's leaf in its tree.
func (l Leaf) Hash() Hash {
	b := field(nil, []byte("qstream record 1"))
	b = field(b, []byte(l.Topic))
	b = binary.BigEndian.AppendUint32(b, uint32(l.Partition))
	b = binary.BigEndian.AppendUint64(b, uint64(l.Offset))
	b = binary.BigEndian.AppendUint64(b, uint64(l.AtMs))
	b = field(b, l.Key)
	b = binary.BigEndian.AppendUint32(b, uint32(len(l.Headers)))
	for _, h := range l.Headers {
		b = field(field(b, []byte(h.Key)), h.Value)
	}
	return tlog.RecordHash(append(b, l.Value[:]...))
}

// field appends bytes that can't run into what follows.
func field(b, f []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
}

// Part is a partition.
type Part struct {
	Topic     string
	Partition int32
}

// PartOf is the partition of a link.
func PartOf(l *pb.Link) Part { return Part{l.Topic, l.Partition} }

// Extend is the link of an interval's leaves, in the order of their offsets.
func Extend(p Part, before Hash, from, next int64, leaves []Hash) *pb.Link {
	l := &pb.Link{Topic: p.Topic, Partition: p.Partition, From: from, Next: next, Count: int64(len(leaves))}
	if len(leaves) > 0 {
		root := newTree(leaves).root()
		l.Root = root[:]
	}
	head := Head(before, l)
	l.Head = head[:]
	return l
}

// Head is the chain's head with a link.
func Head(before Hash, l *pb.Link) Hash {
	if l.Count == 0 {
		return before
	}
	b := field(nil, []byte("qstream link 1"))
	b = append(b, before[:]...)
	b = field(b, []byte(l.Topic))
	b = binary.BigEndian.AppendUint32(b, uint32(l.Partition))
	for _, n := range []int64{l.From, l.Next, l.Count} {
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	return sha256.Sum256(field(b, l.Root))
}

// Prove is the proof that the i-th of an interval's leaves is in its tree.
func Prove(leaves []Hash, i int) ([]Hash, error) {
	t := newTree(leaves)
	p, err := tlog.ProveRecord(int64(len(leaves)), int64(i), t)
	if err != nil {
		return nil, fmt.Errorf("prove leaf %d of %d: %w", i, len(leaves), err)
	}
	return p, nil
}

// ErrFalse says that something isn't what was signed.
var ErrFalse = errors.New("not what was signed")

// mostLeaves is beyond what an interval can hold. The arithmetic of trees has no
// end near 2^63, and who made a link up may say anything.
const mostLeaves = 1 << 48

// Check checks that a leaf is the i-th of a link.
func Check(l *pb.Link, leaf Hash, i int64, proof []Hash) error {
	if len(l.Root) != len(Hash{}) || i < 0 || i >= l.Count || l.Count > mostLeaves {
		return fmt.Errorf("%w: no leaf %d of %d in its interval", ErrFalse, i, l.Count)
	}
	if err := tlog.CheckRecord(proof, l.Count, Hash(l.Root), i, leaf); err != nil {
		return fmt.Errorf("%w: %w", ErrFalse, err)
	}
	return nil
}

// tree holds an interval's tree in memory.
type tree struct {
	count  int64
	hashes []Hash
}

func newTree(leaves []Hash) *tree {
	t := &tree{hashes: make([]Hash, 0, 2*len(leaves))}
	for _, leaf := range leaves {
		more, err := tlog.StoredHashesForRecordHash(t.count, leaf, t)
		if err != nil { // it reads what is in memory
			panic("chain: " + err.Error())
		}
		t.hashes = append(t.hashes, more...)
		t.count++
	}
	return t
}

// ReadHashes is tlog's way to its nodes.
func (t *tree) ReadHashes(at []int64) ([]Hash, error) {
	out := make([]Hash, len(at))
	for i, n := range at {
		if n < 0 || n >= int64(len(t.hashes)) {
			return nil, fmt.Errorf("no hash %d in a tree of %d leaves", n, t.count)
		}
		out[i] = t.hashes[n]
	}
	return out, nil
}

func (t *tree) root() Hash {
	h, err := tlog.TreeHash(t.count, t)
	if err != nil {
		panic("chain: " + err.Error())
	}
	return h
}

// Sign makes the value of a checkpoint.
func Sign(c *pb.Chained, key ed25519.PrivateKey) ([]byte, error) {
	body, err := proto.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	return proto.Marshal(&pb.Checkpoint{Body: body, Signature: ed25519.Sign(key, body), Key: key.Public().(ed25519.PublicKey)})
}

// Signed is a checkpoint whose signature holds.
type Signed struct {
	*pb.Chained
	Key   ed25519.PublicKey
	Hash  Hash // of its body
	First bool // State.Take begins with it: what it took before doesn't count
}

// Open reads the value of a checkpoint and checks its signature. Whether the
// key is one to be trusted is the caller's to ask.
func Open(value []byte) (*Signed, error) {
	var c pb.Checkpoint
	if err := proto.Unmarshal(value, &c); err != nil {
		return nil, fmt.Errorf("no checkpoint: %w", err)
	}
	if len(c.Key) != ed25519.PublicKeySize || !ed25519.Verify(c.Key, c.Body, c.Signature) {
		return nil, fmt.Errorf("checkpoint: %w: the signature doesn't hold", ErrFalse)
	}
	s := &Signed{Chained: &pb.Chained{}, Key: c.Key, Hash: sha256.Sum256(c.Body)}
	if err := proto.Unmarshal(c.Body, s.Chained); err != nil {
		return nil, fmt.Errorf("no checkpoint: %w", err)
	}
	return s, nil
}

// Link is the link of a partition in which an offset lies; nil: none.
func (s *Signed) Link(p Part, offset int64) *pb.Link {
	for _, l := range s.Links {
		if PartOf(l) == p && l.From <= offset && offset < l.Next {
			return l
		}
	}
	return nil
}
