package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// conn is one end of a connection within the process. It behaves as one over
// TCP does, without the system's calls and copies.
type conn struct {
	in, out *stream
	self    net.Addr
	peer    net.Addr
}

// newConns are both ends of a connection to a listener's address.
func newConns(to net.Addr) (dialed, accepted net.Conn) {
	there, back := newStream(), newStream()
	from := within{}
	return &conn{back, there, from, to}, &conn{there, back, to, from}
}

// within is the address of a client in this process.
type within struct{}

func (within) Network() string { return "tcp" }
func (within) String() string  { return "127.0.0.1:0" }

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	return n, c.tell("read", err)
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	return n, c.tell("write", err)
}

func (c *conn) Close() error {
	c.out.seal()
	c.in.leave()
	return nil
}

func (c *conn) LocalAddr() net.Addr  { return c.self }
func (c *conn) RemoteAddr() net.Addr { return c.peer }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

func (c *conn) SetReadDeadline(t time.Time) error {
	c.in.reader.setDeadline(t)
	return nil
}

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.out.writer.setDeadline(t)
	return nil
}

// tell wraps errors as package net does.
func (c *conn) tell(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.self, Addr: c.peer, Err: err}
}

// listener accepts from a TCP port, which other processes use, and from
// within the process.
type listener struct {
	tcp      net.Listener
	accepted chan net.Conn
	closed   chan struct{}
	once     sync.Once
	work     sync.WaitGroup
}

func newListener(tcp net.Listener) *listener {
	l := &listener{tcp: tcp, accepted: make(chan net.Conn), closed: make(chan struct{})}
	l.work.Go(l.acceptTCP)
	return l
}

// acceptTCP goes on after errors: they are of connections, or of a lack of
// descriptors that passes.
func (l *listener) acceptTCP() {
	for {
		c, err := l.tcp.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			select {
			case <-time.After(100 * time.Millisecond):
			case <-l.closed:
			}
		case !l.give(c):
			c.Close()
		}
	}
}

// give reports whether the listener took a connection.
func (l *listener) give(c net.Conn) bool {
	select {
	case l.accepted <- c:
		return true
	case <-l.closed:
		return false
	}
}

// Accept waits for a connection.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, fmt.Errorf("accept: %w", net.ErrClosed)
	}
}

// Close ends accepting; connections live on.
func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() {
		close(l.closed)
		err = l.tcp.Close()
		l.work.Wait()
	})
	return err
}

// Addr is where the TCP port is.
func (l *listener) Addr() net.Addr { return l.tcp.Addr() }

// dial connects from within the process.
func (l *listener) dial(ctx context.Context) (net.Conn, error) {
	dialed, accepted := newConns(l.Addr())
	err := error(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	select {
	case l.accepted <- accepted:
		return dialed, nil
	case <-l.closed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: l.Addr(), Err: err}
}
