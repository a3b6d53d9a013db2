package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Content reads a message for a client and remembers whether reading it
// failed, which is not the engine's fault. Not for concurrent use.
type Content struct {
	from io.Reader
	err  error
	n    int64
}

// NewContent reads from r.
func NewContent(r io.Reader) *Content { return &Content{from: r} }

// Read reads on. A failure stays one.
func (c *Content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.err
	}
	n, err := c.from.Read(p)
	c.n += int64(n)
	c.err = err
	return n, err
}

// Err is what reading failed with; nil at the end and before.
func (c *Content) Err() error {
	if c.err == io.EOF {
		return nil
	}
	return c.err
}

// Bytes is how much has been read.
func (c *Content) Bytes() int64 { return c.n }

// Failure is a failed scan with its reason.
type Failure struct {
	Reason Reason
	Err    error
}

// Error is the failure for people.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap is what it came from.
func (f *Failure) Unwrap() error { return f.Err }

// Fail is a failure of the given reason.
func Fail(r Reason, format string, args ...any) *Failure {
	return &Failure{Reason: r, Err: fmt.Errorf(format, args...)}
}

// FailedBy makes the verdict of a scan that failed with err, which may hold
// a *Failure. Whatever else it is, the end of ctx or a deadline means Late, and
// anything not known means Broken.
func FailedBy(ctx context.Context, name string, err error) Verdict {
	v := Verdict{Engine: name, Outcome: Failed, Reason: Broken, Detail: Text(err.Error())}
	var f *Failure
	switch {
	case errors.As(err, &f) && f.Reason == Unreadable:
		v.Reason = Unreadable
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		v.Reason = Late
	case f != nil:
		v.Reason = f.Reason
	}
	return v
}

// Conn is a connection on which every read and write must make progress within
// a time, and that ends with a context. Not for concurrent use, except Close.
type Conn struct {
	net.Conn
	patience time.Duration
	ctx      context.Context
	release  func() bool
}

// Dial opens a connection within the given time. patience is how long a single
// read or write on it may take.
func Dial(ctx context.Context, network, address string, within, patience time.Duration) (*Conn, error) {
	d := net.Dialer{Timeout: within}
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, &Failure{Reason: Unreachable, Err: err}
	}
	return &Conn{Conn: c, patience: patience, ctx: context.Background(), release: func() bool { return true }}, nil
}

// For binds the connection to ctx until the next call: its end cuts reads and
// writes short. It reports false if the context of the last call had ended; the
// connection is then to be closed.
func (c *Conn) For(ctx context.Context) bool {
	free := c.release()
	c.ctx = ctx
	c.release = context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	return free
}

// deadline is set before each step. Looking at ctx after it closes the gap in
// which For's own deadline is overwritten.
func (c *Conn) deadline(set func(time.Time) error) error {
	if err := set(time.Now().Add(c.patience)); err != nil {
		return err
	}
	return c.ctx.Err()
}

// Read reads what is there.
func (c *Conn) Read(p []byte) (int, error) {
	if err := c.deadline(c.SetReadDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// Write writes all of p.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.deadline(c.SetWriteDeadline); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Spoke reports whether the other side has said something that wasn't read yet;
// it doesn't wait.
func (c *Conn) Spoke() bool {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	said := 0
	err = raw.Control(func(fd uintptr) {
		said, _, _ = syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return err == nil && said > 0
}

// Close ends the connection and its tie to a context.
func (c *Conn) Close() error {
	c.release()
	return c.Conn.Close()
}
