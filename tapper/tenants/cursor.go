package tenants

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
)

// A cursor is a place in the events topic: a version, then partitions and
// offsets as varints, in base64. It says nothing of anybody's mail, and one
// that is made up only reads other places, through the same view.
const cursorVersion = 1

const maxPartitions = 10_000

var errCursor = errors.New("after: want the cursor of an earlier answer")

func encodeCursor(at map[int32]int64) string {
	b := []byte{cursorVersion}
	for _, p := range slices.Sorted(maps.Keys(at)) {
		b = binary.AppendUvarint(b, uint64(p))
		b = binary.AppendUvarint(b, uint64(max(at[p], 0)))
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

func decodeCursor(s string) (map[int32]int64, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || b[0] != cursorVersion {
		return nil, errCursor
	}
	at := map[int32]int64{}
	for b = b[1:]; len(b) > 0; {
		p, n := binary.Uvarint(b)
		if n <= 0 || p >= maxPartitions {
			return nil, errCursor
		}
		b = b[n:]
		o, n := binary.Uvarint(b)
		if n <= 0 || o > 1<<62 {
			return nil, errCursor
		}
		b = b[n:]
		if _, twice := at[int32(p)]; twice {
			return nil, errCursor
		}
		at[int32(p)] = int64(o)
	}
	return at, nil
}
