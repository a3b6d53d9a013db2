package wire

import (
	"errors"
	"fmt"
)

// Verdict is the first octet of an answer of QMQP and QMTP.
type Verdict byte

const (
	// Accepted is K: the server answers for the message from now on.
	Accepted Verdict = 'K'
	// Deferred is Z: not now.
	Deferred Verdict = 'Z'
	// Refused is D: never.
	Refused Verdict = 'D'
)

// MaxAddress is how many octets an address of QMQP and QMTP may have.
const MaxAddress = 999

// maxAnswer is how much of an answer's text is taken; what is longer is no
// answer.
const maxAnswer = 10_000

// ErrAnswer is a netstring that is no answer.
var ErrAnswer = errors.New("not an answer")

// AppendAnswer appends an answer of a server to dst. Control characters in
// text become spaces; a text that is too long is cut.
func AppendAnswer(dst []byte, v Verdict, text string) []byte {
	line := appendPrintable([]byte{byte(v)}, text)
	dst = append(appendLength(dst, int64(len(line))), line...)
	return append(dst, ',')
}

// ReadAnswer reads an answer of a server. The text is hostile.
func (r *Reader) ReadAnswer() (Verdict, string, error) {
	line, err := r.Stream().Short(maxAnswer)
	if err != nil {
		return 0, "", err
	}
	if len(line) > 0 {
		switch v := Verdict(line[0]); v {
		case Accepted, Deferred, Refused:
			return v, string(line[1:]), nil
		}
	}
	return 0, "", fmt.Errorf("%w: %.40q", ErrAnswer, line)
}

// QMQPRequest is what stands before and behind a message of size octets, in
// lines that end in LF, when it is sent by QMQP. reversePath is empty for the
// null path.
func QMQPRequest(size int64, reversePath string, recipients []string) (before, after []byte) {
	after = AppendNetstring([]byte{','}, reversePath)
	for _, to := range recipients {
		after = AppendNetstring(after, to)
	}
	head := appendLength(nil, size)
	before = append(appendLength(nil, int64(len(head)+len(after))+size), head...)
	return before, append(after, ',')
}

// QMQPMessage reads the beginning of a QMQP request up to its message of size
// octets, for Text and then Comma. Sender and recipients follow in the frame.
// limit bounds the message, envelope all that follows it; a request above
// them is ErrNetstringSize.
func (r *Reader) QMQPMessage(limit, envelope int64) (f *Frame, size int64, err error) {
	f, err = r.Stream().Open(netstringSize(limit) + envelope)
	if err != nil {
		return nil, 0, err
	}
	size, err = f.Length(limit)
	return f, size, unexpected(err)
}
