package qmtp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"

	"qstream/mail"
	"qstream/transport"
	"qstream/wire"
)

// parcel is a message ready to be sent.
type parcel struct {
	d             *delivery
	unix          bool
	content       io.ReadCloser
	before, after []byte
	size          int64 // of the message as it goes
}

// prepare opens the content and measures it: its length stands before it.
func (d *delivery) prepare() (*parcel, *failure) {
	p := &parcel{d: d, unix: d.c.cfg.Protocol == QMQP, size: int64(len(d.a.Prepend)) + d.a.Size}
	if f := p.open(); f != nil {
		return nil, f
	}
	if p.unix {
		if f := p.measure(); f != nil {
			return nil, f
		}
	}
	var to []string
	for _, r := range d.a.Recipients {
		to = append(to, raw(r.Address))
	}
	frame := wire.QMTPPackage
	if p.unix {
		frame = wire.QMQPRequest
	}
	p.before, p.after = frame(p.size, raw(d.a.ReversePath), to)
	return p, nil
}

// raw is an address as these protocols carry it.
func raw(address string) string {
	a, err := mail.ParseAddress(address, true)
	if err != nil {
		return address
	}
	return a.Raw()
}

func (p *parcel) open() *failure {
	content, err := p.d.a.Content(p.d.early)
	if err != nil {
		return unreadable()
	}
	p.content = content
	return nil
}

func (p *parcel) close() { p.content.Close() }

// small is how much content is held while it is measured; more is read twice.
const small = 64 << 10

// measure finds how large the message is with lines that end in LF.
func (p *parcel) measure() *failure {
	head := bytes.NewBuffer(make([]byte, 0, min(p.d.a.Size, small)+bytes.MinRead))
	n, err := head.ReadFrom(io.LimitReader(p.content, small+1))
	if err != nil {
		p.close()
		return unreadable()
	}
	rest := p.content
	size, err := wire.UnixSize(io.MultiReader(bytes.NewReader(p.d.a.Prepend), bytes.NewReader(head.Bytes()), early{p.d.early, rest}))
	p.close()
	if err != nil {
		return contentFailure(err)
	}
	p.size = size
	if n <= small {
		p.content = io.NopCloser(head)
		return nil
	}
	return p.open()
}

// early ends with a context.
type early struct {
	ctx context.Context
	r   io.Reader
}

func (e early) Read(b []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.r.Read(b)
}

// contentFailure is why content could not be sent; nil text of a stray octet
// is for good: these protocols carry lines.
func contentFailure(err error) *failure {
	var stray *wire.StrayError
	if errors.As(err, &stray) {
		return &failure{at: transport.AtContent, final: true,
			status: mail.Status{Code: 550, Enhanced: "5.6.0", Text: "content can't be sent: " + stray.Error()}}
	}
	return unreadable()
}

// blockSize is how much is written at once.
const blockSize = 64 << 10

// outbox gathers what is sent into blocks, and holds the message to the size
// that was told.
type outbox struct {
	to   *session
	buf  []byte
	left int64 // of the message
	lost error // of the connection
}

var outboxes = sync.Pool{New: func() any { return &outbox{buf: make([]byte, 0, blockSize)} }}

var errSize = errors.New("content is not of its size")

func (o *outbox) Write(b []byte) (int, error) {
	if o.left -= int64(len(b)); o.left < 0 {
		return 0, errSize
	}
	if o.lost = o.add(b); o.lost != nil {
		return 0, o.lost
	}
	return len(b), nil
}

func (o *outbox) add(b []byte) error {
	if len(o.buf)+len(b) > blockSize && len(o.buf) > 0 {
		if err := o.to.write(o.buf); err != nil {
			return err
		}
		o.buf = o.buf[:0]
	}
	o.buf = append(o.buf, b...)
	return nil
}

// send sends all but the tail, which makes the message whole.
func (p *parcel) send(s *session, ctx context.Context) (tail []byte, f *failure) {
	o := outboxes.Get().(*outbox)
	o.to, o.buf, o.left, o.lost = s, append(o.buf[:0], p.before...), p.size, nil
	defer outboxes.Put(o)
	lines := wire.NewLineWriter(o, p.unix)
	_, err := lines.Write(p.d.a.Prepend)
	if err == nil {
		_, err = io.Copy(lines, early{ctx, p.content})
	}
	if err == nil {
		err = lines.Close()
	}
	if err == nil && o.left != 0 {
		err = errSize
	}
	switch {
	case o.lost != nil:
		return nil, broken(transport.AtContent, o.lost)
	case err != nil:
		return nil, contentFailure(err)
	}
	return append(bytes.Clone(o.buf), p.after...), nil
}
