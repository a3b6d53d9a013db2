package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// stateLogs are the broker's logs of groups' progress and of producers. It
// appends to them, reads them up to the first entry that isn't whole, and
// never cuts that off: whatever it appends after a torn entry is forgotten by
// the next kill, and by every one after it.
var stateLogs = []string{"groups.log", "pids.log"}

// Sizes in the broker's files: of an entry's length and checksum in a state
// log, and of an entry of a segment's index.
const (
	entryHead  = 8
	indexEntry = 15
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// whole is the length of the whole entries that a state log begins with. Each
// is the length of what follows the checksum and the checksum, four bytes
// little-endian each, then a version of two bytes and the data.
func whole(raw []byte) int {
	at := 0
	for at+entryHead <= len(raw) {
		length := int(binary.LittleEndian.Uint32(raw[at:]))
		end := at + entryHead + length
		if length < 2 || end > len(raw) || crc32.Checksum(raw[at+entryHead:end], castagnoli) != binary.LittleEndian.Uint32(raw[at+4:]) {
			break
		}
		at = end
	}
	return at
}

// mendAll cuts the torn ends off that a power loss or a full disk left, and
// completes indexes. The broker must not run.
func mendAll(dir string) error {
	for _, name := range stateLogs {
		if err := mendLog(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return mendIndexes(dir)
}

func mendLog(path string) error {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("mend %s: %w", path, err)
	}
	if n := whole(raw); n < len(raw) {
		if err := os.Truncate(path, int64(n)); err != nil {
			return fmt.Errorf("mend %s: %w", path, err)
		}
	}
	return nil
}

// mendIndex cuts off what is left of an index entry that was written in part:
// every later one would be read from the wrong place.
func mendIndex(path string) error {
	st, err := os.Stat(path)
	if err == nil && st.Size()%indexEntry != 0 {
		err = os.Truncate(path, st.Size()-st.Size()%indexEntry)
	}
	if err != nil {
		return fmt.Errorf("mend %s: %w", path, err)
	}
	return nil
}

// mendWritten repairs the file of a write that failed, which the broker tells
// in a warning before it writes on. It is called from there, so that nothing
// is written meanwhile.
func mendWritten(args []any) error {
	for _, arg := range args {
		err, _ := arg.(error)
		var failed *fs.PathError
		if !errors.As(err, &failed) || failed.Op != "write" {
			continue
		}
		switch name := filepath.Base(failed.Path); {
		case name == stateLogs[0] || name == stateLogs[1]:
			return mendLog(failed.Path)
		case strings.HasSuffix(name, ".idx"):
			return mendIndex(failed.Path)
		}
	}
	return nil
}
