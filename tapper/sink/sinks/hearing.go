package sinks

import (
	"context"
	"net"
	"sync"
	"time"
)

// hearingTime is how long a write that failed waits for what the server said.
const hearingTime = 5 * time.Second

// hearing is a connection to a server that may refuse a request, say why, and
// close, before it has read all of it: the write that fails then waits, so that
// the answer is read before the connection is given up for it.
type hearing struct {
	net.Conn
	once sync.Once
	over chan struct{} // closed once nothing more will be read
}

// dial is net/http's own, that hears.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return &hearing{Conn: c, over: make(chan struct{})}, nil
}

func (c *hearing) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.end()
	}
	return n, err
}

func (c *hearing) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		late := time.NewTimer(hearingTime)
		defer late.Stop()
		select {
		case <-c.over:
		case <-late.C:
		}
	}
	return n, err
}

func (c *hearing) Close() error {
	c.end()
	return c.Conn.Close()
}

func (c *hearing) end() { c.once.Do(func() { close(c.over) }) }
