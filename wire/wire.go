// Package wire reads and writes what stands on the wire of a mail dialogue:
// SMTP command and reply lines, the content of DATA and BDAT, netstrings and
// what QMQP and QMTP make of them; both directions. It does no I/O of its own:
// it is given readers and writers.
//
// Guarantee: content is byte-exact. What a DataReader or a ChunkReader returns
// is what the client's mail held, and what a DotWriter or a LineWriter sends
// reads back as what was written. Lines that end in LF, where a protocol has
// them, end in CRLF in content.
// Guarantee: only CRLF.CRLF ends DATA. A bare CR, a bare LF and a NUL are
// refused, or normalised where Options say so, and never written.
// Guarantee: how the bytes are cut into packets changes nothing.
// Guarantee: memory is bounded, whatever lengths a peer announces.
package wire

import (
	"errors"
	"fmt"
)

// Policy says what becomes of stray octets in content.
type Policy int

const (
	// Reject ends reading with a *StrayError.
	Reject Policy = iota
	// Normalise makes a bare LF a CRLF, and a bare CR or a NUL a space. A
	// line ended by a bare LF is never followed by an end of data.
	Normalise
)

// Options are how content is read.
type Options struct {
	Policy  Policy
	MaxLine int // longest line in octets with its CRLF; 0: no limit
}

// DefaultMaxLine is twice the line of RFC 5321 4.5.3.1.6.
const DefaultMaxLine = 2000

var (
	// ErrLineTooLong is a line above the limit.
	ErrLineTooLong = errors.New("line too long")
	// ErrTooMuch is content that goes on beyond the limit of a Drain.
	ErrTooMuch = errors.New("content does not end")
	// ErrChunkEnd is returned by ChunkReader.Read behind a chunk that is not
	// the last.
	ErrChunkEnd = errors.New("end of chunk")
)

// StrayError is an octet that may not stand where it stood: '\r' without
// '\n', '\n' without '\r', or NUL.
type StrayError struct{ Octet byte }

func (e *StrayError) Error() string {
	switch e.Octet {
	case '\r':
		return "bare CR"
	case '\n':
		return "bare LF"
	case 0:
		return "NUL octet"
	}
	return fmt.Sprintf("stray octet %#02x", e.Octet)
}
