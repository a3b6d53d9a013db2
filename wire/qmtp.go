package wire

import "fmt"

// QMTPPackage is what stands before and behind a message of size octets, in
// lines that end in CRLF, when it is sent by QMTP. reversePath is empty for
// the null path.
func QMTPPackage(size int64, reversePath string, recipients []string) (before, after []byte) {
	before = append(appendLength(nil, size+1), '\r')
	var to []byte
	for _, address := range recipients {
		to = AppendNetstring(to, address)
	}
	after = AppendNetstring([]byte{','}, reversePath)
	return before, append(append(appendLength(after, int64(len(to))), to...), ',')
}

// QMTPMessage reads the beginning of a QMTP package up to its message of size
// octets, for Text and then Comma: sender, and a frame of recipients, follow
// in f. unix says that its lines end in LF, not CRLF. io.EOF says that the
// client has no more. A message above limit is ErrNetstringSize.
func (f *Frame) QMTPMessage(limit int64) (size int64, unix bool, err error) {
	if f.r.Buffered() == 0 {
		f.r.shrink() // it may wait for long
	}
	size, err = f.Length(limit + 1)
	if err != nil {
		return 0, false, err
	}
	if size == 0 {
		return 0, false, fmt.Errorf("%w: message without an encoding", ErrNetstring)
	}
	for f.r.Buffered() == 0 {
		if err := unexpected(f.r.fill()); err != nil {
			return 0, false, err
		}
	}
	switch c := f.r.buf[f.r.start]; c {
	case '\n', '\r':
		f.r.start++
		return size - 1, c == '\n', nil
	default:
		return 0, false, fmt.Errorf("%w: message in encoding %#02x", ErrNetstring, c)
	}
}
