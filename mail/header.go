package mail

import (
	"bytes"
	"strings"
)

// HeaderScan reads the header of a message as it streams by and notes what
// the edge needs. It keeps at most one line and one Message-ID in memory. The
// zero HeaderScan is ready for use; it is not safe for concurrent use.
type HeaderScan struct {
	Received     int // Received fields: the hops so far
	HasFrom      bool
	HasDate      bool
	HasMessageID bool // also one without a value
	messageID    []byte

	line    []byte // start of the line so far, at most lineKept octets
	begun   bool   // a field has been seen
	idField bool   // the field that may go on is the Message-ID
	done    bool
}

// lineKept is how much of a line is kept: RFC 5322 2.1.1.
const lineKept = 998

// MessageID is the value of the first Message-ID field: unfolded, valid UTF-8,
// at most 998 octets; hostile text.
func (h *HeaderScan) MessageID() string {
	return strings.ToValidUTF8(string(bytes.TrimSpace(h.messageID)), "\uFFFD")
}

// Write takes the next octets of the message. It never fails.
func (h *HeaderScan) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && !h.done {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			h.keep(p)
			break
		}
		h.keep(p[:i])
		h.endLine()
		p = p[i+1:]
	}
	return n, nil
}

func (h *HeaderScan) keep(p []byte) {
	h.line = append(h.line, p[:min(len(p), lineKept-len(h.line))]...)
}

func (h *HeaderScan) endLine() {
	line := bytes.TrimSuffix(h.line, []byte{'\r'})
	switch {
	case len(line) == 0:
		h.done = true
	case line[0] == ' ' || line[0] == '\t':
		h.done = !h.begun
		h.keepID(line)
	default:
		h.field(line)
	}
	h.line = h.line[:0]
}

// field notes the first line of a field. A line that is none ends the header,
// apart from the envelope line of an mbox file at its start.
func (h *HeaderScan) field(line []byte) {
	name, value, ok := bytes.Cut(line, []byte{':'})
	name = bytes.TrimRight(name, " \t") // RFC 5322 4.5
	if !ok || !isFieldName(name) {
		h.done = h.begun || !bytes.HasPrefix(bytes.TrimPrefix(line, []byte(">")), []byte("From "))
		return
	}
	h.begun, h.idField = true, false
	switch strings.ToLower(string(name)) {
	case "received":
		h.Received++
	case "from":
		h.HasFrom = true
	case "date":
		h.HasDate = true
	case "message-id":
		h.HasMessageID, h.idField = true, len(h.messageID) == 0
		h.keepID(value)
	}
}

func (h *HeaderScan) keepID(value []byte) {
	if h.idField {
		h.messageID = append(h.messageID, value[:min(len(value), lineKept-len(h.messageID))]...)
	}
}

func isFieldName(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(name) > 0
}
