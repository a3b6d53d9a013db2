package mail

import (
	"bufio"
	"bytes"
	"io"
	"strings"
	"time"
)

// MboxFrom is the line before a message in a mailbox file, its end included.
func MboxFrom(reversePath string, at time.Time) string {
	if reversePath == "" {
		reversePath = "MAILER-DAEMON"
	}
	from := strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, reversePath)
	return "From " + from + " " + at.UTC().Format(time.ANSIC) + "\n"
}

// CopyMbox copies a message into a mailbox of the mboxrd form, behind its From_
// line, and ends it with an empty line: lines end in LF, and a > goes before
// those that begin with From behind any number of >. w is not flushed.
func CopyMbox(w *bufio.Writer, r *bufio.Reader) error {
	begin, last, cr := true, byte('\n'), false
	for {
		piece, err := r.ReadSlice('\n')
		whole := len(piece) > 0 && piece[len(piece)-1] == '\n'
		if cr && !(whole && len(piece) == 1) { // the CR was none of a line's end
			_ = w.WriteByte('\r')
		}
		if cr = !whole && err == bufio.ErrBufferFull && piece[len(piece)-1] == '\r'; cr {
			piece = piece[:len(piece)-1]
		}
		if begin && bytes.HasPrefix(bytes.TrimLeft(piece, ">"), []byte("From ")) {
			_ = w.WriteByte('>') // the error stays until Flush
		}
		if whole && bytes.HasSuffix(piece, []byte("\r\n")) {
			piece = append(piece[:len(piece)-2], '\n')
		}
		if len(piece) > 0 {
			last = piece[len(piece)-1]
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		begin = whole
		switch err {
		case nil, bufio.ErrBufferFull:
		case io.EOF:
			if last != '\n' {
				_ = w.WriteByte('\n')
			}
			return w.WriteByte('\n')
		default:
			return err
		}
	}
}
