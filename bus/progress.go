package bus

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of a commit's metadata. The broker's is 4,096 characters, and
// base64 because bytes that are not UTF-8 would be replaced.
const (
	metadataLimit = 4096
	metadataFull  = 3500 // stop handing out beyond
	formatByte    = 0x01
)

// noFloor says that nothing of the journal is needed.
const noFloor int64 = -1

// progress is what the metadata of a commit tells beside the offset.
type progress struct {
	owner       string // transactional id of who committed
	sequence    uint64 // of the owner's commits of this partition
	released    bool   // the owner has let go: nothing of it is under way
	journalPart int32
	floor       int64 // first journal offset that matters, or noFloor
	state       []byte
	finished    []span // above the committed offset
	more        overflow
}

// overflow is the journal record that holds all of finished, when metadata
// has no room for it. Without it what was cut off would be done twice.
type overflow struct {
	set    bool
	part   int32
	offset int64
}

const (
	flagReleased = 1
	flagOverflow = 2
)

// encode makes the metadata text for a commit at base. What doesn't fit is
// cut off at the end, which tells it unfinished; size is the length it would
// have had.
func (p *progress) encode(base int64) (text string, size int) {
	head := []byte{formatByte, 0}
	if p.released {
		head[1] |= flagReleased
	}
	head = binary.AppendUvarint(head, p.sequence)
	head = appendBytes(head, []byte(p.owner))
	head = binary.AppendVarint(head, int64(p.journalPart))
	head = binary.AppendVarint(head, p.floor)
	head = appendBytes(head, p.state)
	if p.more.set {
		head[1] |= flagOverflow
		head = binary.AppendVarint(head, int64(p.more.part))
		head = binary.AppendVarint(head, p.more.offset)
	}
	fits, at := head, base
	for _, s := range p.finished {
		head = appendSpan(head, at, s)
		at = s.to
		if base64.RawStdEncoding.EncodedLen(len(head)) <= metadataLimit {
			fits = head
		}
	}
	return base64.RawStdEncoding.EncodeToString(fits), base64.RawStdEncoding.EncodedLen(len(head))
}

func appendSpan(to []byte, at int64, s span) []byte {
	to = binary.AppendUvarint(to, uint64(s.from-at))
	return binary.AppendUvarint(to, uint64(s.to-s.from))
}

// encodeSpans is all of finished, for an overflow.
func encodeSpans(base int64, spans []span) (b []byte) {
	for _, s := range spans {
		b = appendSpan(b, base, s)
		base = s.to
	}
	return b
}

func appendBytes(to, b []byte) []byte {
	return append(binary.AppendUvarint(to, uint64(len(b))), b...)
}

var errMetadata = errors.New("commit metadata is not ours")

// decodeProgress reads the metadata of a commit at base. Empty metadata is a
// commit made by hand or by topic creation.
func decodeProgress(base int64, text string) (progress, error) {
	if text == "" {
		return progress{released: true, floor: noFloor, journalPart: -1}, nil
	}
	raw, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return progress{}, fmt.Errorf("%w: %w", errMetadata, err)
	}
	if len(raw) < 2 || raw[0] != formatByte {
		return progress{}, fmt.Errorf("%w: unknown format", errMetadata)
	}
	d := metadataReader{b: raw[2:]}
	p := progress{released: raw[1]&flagReleased != 0}
	p.sequence = d.uvarint()
	p.owner = string(d.bytes())
	p.journalPart = int32(d.varint())
	p.floor = d.varint()
	p.state = d.bytes()
	if raw[1]&flagOverflow != 0 {
		p.more = overflow{set: true, part: int32(d.varint()), offset: d.varint()}
	}
	p.finished = d.spans(base)
	if d.bad {
		return progress{}, fmt.Errorf("%w: cut short", errMetadata)
	}
	return p, nil
}

// spans reads to the end.
func (d *metadataReader) spans(at int64) (spans []span) {
	for len(d.b) > 0 && !d.bad {
		from := at + int64(d.uvarint())
		to := from + int64(d.uvarint())
		if from < at || to <= from {
			d.bad = true
			break
		}
		spans = append(spans, span{from, to})
		at = to
	}
	return spans
}

type metadataReader struct {
	b   []byte
	bad bool
}

func (d *metadataReader) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *metadataReader) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *metadataReader) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.bad, d.b = true, nil
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}
