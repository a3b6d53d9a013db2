package handover

import (
	"bufio"
	"errors"
	"io"

	"qstream/wire"
)

// maxEnvelope bounds what is held of an envelope, in octets.
const maxEnvelope = 32 << 20

// ReadEnvelope reads qmail-queue's: F, the reverse-path and a NUL; for each
// recipient T, the address and a NUL; and a NUL. Q in place of T, s/qmail's
// wish that the message is not scanned, is a recipient as any other: what is
// scanned is decided behind the server. What ends before the last NUL was
// given up by who wrote it. The error is a *Failure.
func ReadEnvelope(r io.Reader) (reversePath string, recipients []string, err error) {
	in := &envelope{in: bufio.NewReader(r)}
	if token, err := in.octet(); err != nil {
		return "", nil, err
	} else if token != 'F' {
		return "", nil, failf(CodeEnvelope, "the envelope begins with %q, not with F", token)
	}
	if reversePath, err = in.address(); err != nil {
		return "", nil, err
	}
	for {
		token, err := in.octet()
		switch {
		case err != nil:
			return "", nil, err
		case token == 0:
			return reversePath, recipients, nil
		case token != 'T' && token != 'Q':
			return "", nil, failf(CodeEnvelope, "the envelope has %q where a recipient should be", token)
		}
		to, err := in.address()
		if err != nil {
			return "", nil, err
		}
		recipients = append(recipients, to)
	}
}

type envelope struct {
	in   *bufio.Reader
	read int
}

func (e *envelope) octet() (byte, error) {
	c, err := e.in.ReadByte()
	switch {
	case errors.Is(err, io.EOF):
		return 0, failf(CodeRead, "the envelope ends early: the message was given up")
	case err != nil:
		return 0, failf(CodeRead, "read the envelope: %v", err)
	}
	if e.read++; e.read > maxEnvelope {
		return 0, failf(CodeMemory, "an envelope of more than %d octets", maxEnvelope)
	}
	return c, nil
}

func (e *envelope) address() (string, error) {
	var a []byte
	for {
		c, err := e.octet()
		switch {
		case err != nil:
			return "", err
		case c == 0:
			return string(a), nil
		case len(a) == wire.MaxAddress:
			return "", failf(CodeAddress, "an address of more than %d octets", wire.MaxAddress)
		}
		a = append(a, c)
	}
}
