package milter

import (
	"encoding/binary"
	"errors"
	"io"
	"os"

	"qstream/engine"
)

// Commands of the MTA and answers of the filter (libmilter/mfdef.h).
const (
	cmdNegotiate = 'O'
	cmdMacros    = 'D'
	cmdConnect   = 'C'
	cmdHelo      = 'H'
	cmdMail      = 'M'
	cmdRcpt      = 'R'
	cmdData      = 'T'
	cmdHeader    = 'L'
	cmdEOH       = 'N'
	cmdBody      = 'B'
	cmdEOB       = 'E'
	cmdQuit      = 'Q'

	saysContinue   = 'c'
	saysAccept     = 'a'
	saysReject     = 'r'
	saysTempfail   = 't'
	saysDiscard    = 'd'
	saysReply      = 'y'
	saysSkip       = 's'
	saysProgress   = 'p'
	saysAdd        = 'h'
	saysInsert     = 'i'
	saysChange     = 'm'
	saysQuarantine = 'q'
)

// What is offered: actions SMFIF_ADDHDRS, CHGHDRS, QUARANTINE; protocol steps
// that a filter may leave out (SMFIP_NO*), not answer (SMFIP_NR_*), or skip, and
// the blank before values kept (SMFIP_HDR_LEADSPC).
const (
	offerVersion  = 6
	offerActions  = 0x01 | 0x10 | 0x20
	offerProtocol = 0x1fffff &^ (rejectedRcpts | noUnknown | unknownUnanswered) // we send neither
)

const (
	rejectedRcpts     = 0x000800
	noUnknown         = 0x000100
	unknownUnanswered = 0x020000
	leadingBlank      = 0x100000
)

// steps are the flags by which a filter leaves out a command, and by which it
// doesn't answer it.
var steps = map[byte]struct{ out, unanswered uint32 }{
	cmdConnect: {0x001, 0x01000}, cmdHelo: {0x002, 0x02000}, cmdMail: {0x004, 0x04000}, cmdRcpt: {0x008, 0x08000},
	cmdData: {0x200, 0x10000}, cmdHeader: {0x020, 0x00080}, cmdEOH: {0x040, 0x40000}, cmdBody: {0x010, 0x80000},
}

const (
	maxPacket   = 128 << 10 // libmilter's own limit is 64 KiB
	maxBody     = 65535     // MILTER_CHUNK_SIZE
	maxProgress = 10_000
)

// session is one message with one filter.
type session struct {
	conn     *engine.Conn
	version  uint32
	protocol uint32
}

// packet is one answer.
type packet struct {
	code byte
	data []byte
}

func (s *session) write(code byte, data []byte) error {
	b := make([]byte, 5, 5+len(data))
	binary.BigEndian.PutUint32(b, uint32(1+len(data)))
	b[4] = code
	if _, err := s.conn.Write(append(b, data...)); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return engine.Fail(engine.Late, "the filter takes nothing: %w", err)
		}
		return engine.Fail(engine.Broken, "send %q to the filter: %w", code, err)
	}
	return nil
}

// read is the next answer. Progress says that one is still to come.
func (s *session) read() (packet, error) {
	for range maxProgress {
		p, err := s.packet()
		if err != nil || p.code != saysProgress {
			return p, err
		}
	}
	return packet{}, engine.Fail(engine.Late, "the filter reports progress without end")
}

func (s *session) packet() (packet, error) {
	var head [5]byte
	if _, err := io.ReadFull(s.conn, head[:]); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return packet{}, engine.Fail(engine.Late, "no answer from the filter: %w", err)
		}
		return packet{}, engine.Fail(engine.Broken, "read the filter's answer: %w", err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 || size > maxPacket {
		return packet{}, engine.Fail(engine.Broken, "the filter's answer has %d bytes", size)
	}
	p := packet{code: head[4], data: make([]byte, size-1)}
	if _, err := io.ReadFull(s.conn, p.data); err != nil {
		return packet{}, engine.Fail(engine.Broken, "read the filter's answer: %w", err)
	}
	return p, nil
}

func (s *session) negotiate() error {
	var b []byte
	for _, v := range []uint32{offerVersion, offerActions, offerProtocol} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	if err := s.write(cmdNegotiate, b); err != nil {
		return err
	}
	p, err := s.packet()
	if err != nil {
		return err
	}
	if p.code != cmdNegotiate || len(p.data) < 12 {
		return engine.Fail(engine.Broken, "the filter answers the negotiation with %q and %d bytes", p.code, len(p.data))
	}
	// The rest names the macros it wants; it is sent those that there are.
	version, actions, protocol := binary.BigEndian.Uint32(p.data), binary.BigEndian.Uint32(p.data[4:]), binary.BigEndian.Uint32(p.data[8:])
	if version < 2 || version > offerVersion || actions&^offerActions != 0 || protocol&^offerProtocol != 0 {
		return engine.Fail(engine.Broken, "the filter wants version %d, actions %#x, protocol %#x", version, actions, protocol)
	}
	s.version, s.protocol = version, protocol
	return nil
}

// step sends a command unless the filter leaves it out, and returns its
// answer: continue where it gives none.
func (s *session) step(code byte, data []byte) (packet, error) {
	flags := steps[code]
	if s.protocol&flags.out != 0 || code == cmdData && s.version < 4 {
		return packet{code: saysContinue}, nil
	}
	if err := s.write(code, data); err != nil {
		return packet{}, err
	}
	if s.protocol&flags.unanswered != 0 {
		return packet{code: saysContinue}, nil
	}
	return s.read()
}

// macros tell names and values for the next command.
func (s *session) macros(code byte, pairs ...string) error {
	b := []byte{code}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			b = append(b, text(pairs[i])...)
			b = append(b, text(pairs[i+1])...)
		}
	}
	return s.write(cmdMacros, b)
}

func (s *session) quit() {
	_ = s.write(cmdQuit, nil)
	_ = s.conn.Close()
}

// text ends a string by NUL; one inside becomes a space.
func text(v string) []byte {
	b := append([]byte(v), 0)
	for i := range b[:len(b)-1] {
		if b[i] == 0 {
			b[i] = ' '
		}
	}
	return b
}
