package smtp

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"qstream/mail"
	"qstream/transport"
	"qstream/wire"
)

// errBytes is content that SMTP can't carry (RFC 5321 2.3.8): sent on, it
// could end a message for one server and not for another.
var errBytes = mail.Status{Code: 550, Enhanced: "5.6.0", Text: "content can't be sent by SMTP"}

// content sends prepend, content and the final dot, and reads the replies.
func (t *transaction) content(content io.Reader) *failure {
	out := outboxes.Get().(*outbox)
	defer out.release()
	out.to = t.s
	dots := wire.NewDotWriter(out)
	_, err := dots.Write(t.d.a.Prepend)
	if err == nil {
		err = t.copy(dots, content)
	}
	if err == nil {
		out.ending = true
		err = dots.Close()
	}
	if err == nil {
		return t.dot(out.buf)
	}
	var stray *wire.StrayError
	var unreadable readError
	switch {
	case errors.As(err, &stray):
		s := errBytes
		s.Text += ": " + stray.Error()
		// The connection ends with the message unfinished: nobody takes it.
		t.s.drop()
		t.d.settleAll(t.accepted, transport.Outcome{Status: s, Kind: transport.Decided, At: transport.AtContent})
		return nil
	case errors.As(err, &unreadable):
		return &failure{at: transport.AtContent, status: errContent, final: true, err: err}
	}
	return t.lost(err)
}

// lost is a connection that broke in the middle of content. What the peer may
// have said before it closed tells more than the error does.
func (t *transaction) lost(err error) *failure {
	f := broken(transport.AtContent, err)
	if t.s.ctx.Err() != nil {
		return f
	}
	if reply, _, rerr := t.s.read(t.s.t.Block); rerr == nil && !reply.OK() {
		return refused(transport.AtContent, reply)
	}
	return f
}

// dot passes the point of no return: before it Revoked and Held cut the
// attempt, after it only the end of ctx does.
func (t *transaction) dot(tail []byte) *failure {
	if !t.d.a.AtDot() {
		t.d.cut()
	}
	if !t.unbind() {
		return broken(transport.AtContent, t.d.early.Err())
	}
	t.unbind = t.s.bind(t.d.ctx)
	if err := t.s.within(t.s.t.Block); err != nil {
		return broken(transport.AtContent, err)
	}
	if n, err := t.s.conn.Write(tail); err != nil && n < len(tail) {
		// The end did not leave this machine.
		return t.lost(err)
	}
	t.s.until = time.Time{}
	t.d.res.Sent = true
	call(t.d.a.AfterDot)
	t.replies()
	return nil
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// replies reads what became of the message: one reply, with LMTP one for each
// accepted recipient in order (RFC 2033 4.2).
func (t *transaction) replies() {
	groups := [][]int{t.accepted}
	if t.s.lmtp {
		groups = groups[:0]
		for _, i := range t.accepted {
			groups = append(groups, []int{i})
		}
	}
	for n, group := range groups {
		reply, _, err := t.s.read(t.s.t.Dot)
		if err == nil && reply.Code >= 300 && reply.Code < 400 {
			err = fmt.Errorf("%w to the final dot: %s", errReply, reply.String())
		}
		if err != nil {
			t.s.broken = true
			s := broken(transport.AtDot, err).status
			s.Text = "no reply to the final dot, the message may have been taken: " + s.Text
			for _, open := range groups[n:] {
				t.d.settleAll(open, transport.Outcome{Status: s, Kind: transport.Unconfirmed, At: transport.AtDot})
			}
			return
		}
		t.s.broken = t.s.broken || reply.Code == 421
		t.s.clean = reply.OK() && (n == 0 || t.s.clean)
		t.d.settleAll(group, transport.Outcome{Status: reply, At: transport.AtDot})
	}
}

// readError marks an error as the content's, not the connection's.
type readError struct{ error }

func (e readError) Unwrap() error { return e.error }

// blocks are reused: a thousand attempts at once read into them.
var blocks = sync.Pool{New: func() any { return new([blockSize / 2]byte) }}

// copy sends content as long as the attempt may go on.
func (t *transaction) copy(to io.Writer, content io.Reader) error {
	block := blocks.Get().(*[blockSize / 2]byte)
	defer blocks.Put(block)
	for {
		if err := t.d.early.Err(); err != nil {
			return readError{err}
		}
		n, err := content.Read(block[:])
		if _, werr := to.Write(block[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return readError{err}
		}
	}
}

// outbox gathers the wire's bytes into blocks. Once ending is set it keeps
// them, so that the end of data leaves with the last block, in one write.
type outbox struct {
	to     *session
	buf    []byte
	ending bool
}

// outboxes are reused: their memory is most of what an attempt needs.
var outboxes = sync.Pool{New: func() any { return &outbox{} }}

func (o *outbox) release() {
	o.to, o.buf, o.ending = nil, o.buf[:0], false
	outboxes.Put(o)
}

const blockSize = 64 << 10

func (o *outbox) Write(p []byte) (int, error) {
	if len(o.buf)+len(p) > blockSize && len(o.buf) > 0 && !o.ending {
		if err := o.to.write(o.buf, o.to.t.Block); err != nil {
			return 0, err
		}
		o.buf = o.buf[:0]
	}
	o.buf = append(o.buf, p...)
	return len(p), nil
}
