package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// batchHead is what a batch in a segment begins with: Kafka's record batch of
// magic 2, big-endian.
type batchHead struct {
	first, last   int64 // offsets
	size          int64 // of the whole batch
	epoch         int32
	transactional bool // a record of a transaction, not its end
}

const (
	headLength = 27
	// Of the attributes.
	inTransaction = 0x10
	isControl     = 0x20
)

var errNoBatch = errors.New("no whole batch")

// readHead reads the head of the batch at a place of a segment, which holds
// size bytes. It wraps errNoBatch if none is there that is whole by its length.
func readHead(segment io.ReaderAt, at, size int64) (batchHead, error) {
	var raw [headLength]byte
	if at+headLength > size {
		return batchHead{}, errNoBatch
	}
	if _, err := segment.ReadAt(raw[:], at); err != nil {
		return batchHead{}, fmt.Errorf("%w: %w", errNoBatch, err)
	}
	attributes := binary.BigEndian.Uint16(raw[21:])
	h := batchHead{
		first:         int64(binary.BigEndian.Uint64(raw[:])),
		size:          12 + int64(binary.BigEndian.Uint32(raw[8:])),
		epoch:         int32(binary.BigEndian.Uint32(raw[12:])),
		transactional: attributes&inTransaction != 0 && attributes&isControl == 0,
	}
	h.last = h.first + int64(int32(binary.BigEndian.Uint32(raw[23:])))
	if raw[16] != 2 || h.size < headLength || at+h.size > size || h.first < 0 || h.last < h.first {
		return batchHead{}, errNoBatch
	}
	return h, nil
}

// indexed is the index's entry of a batch, as the broker writes it: version,
// checksum, epoch, the latest time before it (which the broker reckons anew),
// and whether it belongs to a transaction.
func (h batchHead) indexed() [indexEntry]byte {
	e := [indexEntry]byte{0: 1}
	binary.LittleEndian.PutUint32(e[2:], uint32(h.epoch))
	if h.transactional {
		e[14] = 1
	}
	e[1] = byte(crc32.Checksum(e[2:], castagnoli))
	return e
}

// mendIndexes gives the batches of each partition's last two segments the
// index entries that a power loss took: the system writes what nobody has
// waited for in any order, records without their entries too. Without its entry
// a batch would be taken for one of no transaction, and later entries for
// those of other batches. Earlier segments were flushed as a whole.
func mendIndexes(dir string) error {
	partitions, err := filepath.Glob(filepath.Join(dir, "partitions", "*"))
	if err != nil {
		return fmt.Errorf("mend indexes: %w", err)
	}
	for _, p := range partitions {
		bases, err := segments(p)
		if err != nil {
			return fmt.Errorf("mend indexes: %w", err)
		}
		for _, base := range bases[max(0, len(bases)-2):] {
			if err := completeIndex(filepath.Join(p, strconv.FormatInt(base, 10))); err != nil {
				return fmt.Errorf("mend index: %w", err)
			}
		}
	}
	return nil
}

// completeIndex is about one segment, named without its ending.
func completeIndex(name string) (err error) {
	segment, err := os.Open(name + segmentEnding)
	if err != nil {
		return err
	}
	defer segment.Close()
	index, err := os.OpenFile(name+".idx", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, index.Close()) }()
	st, err := segment.Stat()
	if err != nil {
		return err
	}
	have, err := index.Stat()
	if err != nil {
		return err
	}
	var missing []byte
	batches := int64(0)
	for at := int64(0); ; batches++ {
		h, err := readHead(segment, at, st.Size())
		if err != nil {
			break
		}
		if (batches+1)*indexEntry > have.Size() {
			e := h.indexed()
			missing = append(missing, e[:]...)
		}
		at += h.size
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = index.WriteAt(missing, batches*indexEntry-int64(len(missing)))
	return err
}
