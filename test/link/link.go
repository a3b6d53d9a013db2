// Package link puts TCP proxies between the processes of a test, so that the
// way between any two of them can be cut or made slow.
//
// Guarantee: bytes come out as they went in, or the connection breaks.
//
// Who dials a proxy is found out by the process that holds the other end of
// the connection (Linux: /proc). It knows nothing of what is spoken.
package link

import (
	"net"
	"sync"
	"time"
)

// Party is a process that may dial.
type Party struct {
	Name string
	PID  int
}

// Trouble is what is wrong with the way from one party to another. The zero
// Trouble is none.
type Trouble struct {
	// Silent lets nothing through, neither bytes nor the ends of connections;
	// what is held goes on when the trouble is over, as TCP would send it again.
	Silent bool
	// Reset breaks the connections and refuses new ones.
	Reset bool
	// Delay is added to every piece on its way, in each direction.
	Delay time.Duration
}

// Network is the proxies of one test. Its methods are safe for concurrent use.
type Network struct {
	parties func() []Party // asked for each new connection

	mu        sync.Mutex
	troubles  map[way]Trouble
	changed   chan struct{} // closed when troubles change
	conns     map[*conn]bool
	listeners []net.Listener
	closed    bool
	wg        sync.WaitGroup
}

// way is from who dials to who is dialled.
type way struct{ from, to string }

// conn is one connection through a proxy.
type conn struct {
	way
	near, far *net.TCPConn // far: nil until dialled
}

// New makes a network without proxies. Parties are asked for at each new
// connection, and looked at in their order: those with few open files first
// is fast.
func New(parties func() []Party) *Network {
	return &Network{
		parties: parties, troubles: map[way]Trouble{},
		changed: make(chan struct{}), conns: map[*conn]bool{},
	}
}

// Front listens for connections to the party of that name, which itself
// listens at target, and returns where.
func (n *Network) Front(name, target string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	n.mu.Lock()
	n.listeners = append(n.listeners, l)
	n.mu.Unlock()
	n.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.wg.Go(func() { n.serve(c.(*net.TCPConn), name, target) })
		}
	})
	return l.Addr().String(), nil
}

// Set makes trouble on the way from one party to another, or ends it.
func (n *Network) Set(from, to string, t Trouble) {
	n.mu.Lock()
	defer n.mu.Unlock()
	w := way{from, to}
	n.troubles[w] = t
	if t == (Trouble{}) {
		delete(n.troubles, w)
	}
	if t.Reset {
		for c := range n.conns {
			if c.way == w {
				c.reset()
			}
		}
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// Heal ends all troubles.
func (n *Network) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.troubles)
	close(n.changed)
	n.changed = make(chan struct{})
}

// Close ends the proxies and all connections.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	clear(n.troubles)
	close(n.changed)
	n.changed = make(chan struct{})
	for _, l := range n.listeners {
		_ = l.Close()
	}
	for c := range n.conns {
		c.reset()
	}
	n.mu.Unlock()
	n.wg.Wait()
}

// serve carries one connection until both sides have ended.
func (n *Network) serve(near *net.TCPConn, name, target string) {
	c := &conn{way: way{who(near, n.parties()), name}, near: near}
	if !n.add(c) {
		c.reset()
		return
	}
	defer n.remove(c)
	n.passable(c.way)
	far, err := net.Dial("tcp", target)
	if err != nil {
		c.reset()
		return
	}
	n.mu.Lock()
	c.far = far.(*net.TCPConn)
	stop := n.closed || n.troubles[c.way].Reset
	n.mu.Unlock()
	if stop {
		c.reset()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { n.carry(c, c.far, c.near) })
	both.Go(func() { n.carry(c, c.near, c.far) })
	both.Wait()
	_, _ = c.near.Close(), c.far.Close()
}

// add refuses a connection on a way that is broken.
func (n *Network) add(c *conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || n.troubles[c.way].Reset {
		return false
	}
	n.conns[c] = true
	return true
}

func (n *Network) remove(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
}

// carry copies one direction, with the delays and silences of the way.
func (n *Network) carry(c *conn, to, from *net.TCPConn) {
	piece := make([]byte, 64<<10)
	for {
		got, err := from.Read(piece)
		time.Sleep(n.passable(c.way))
		if got > 0 {
			if _, err := to.Write(piece[:got]); err != nil {
				_ = from.CloseRead()
				return
			}
		}
		if err != nil {
			_ = to.CloseWrite()
			return
		}
	}
}

// passable waits until the way isn't silent and returns its delay.
func (n *Network) passable(w way) time.Duration {
	for {
		n.mu.Lock()
		t, changed := n.troubles[w], n.changed
		n.mu.Unlock()
		if !t.Silent {
			return t.Delay
		}
		<-changed
	}
}

// reset hangs up both sides without a farewell.
func (c *conn) reset() {
	for _, side := range []*net.TCPConn{c.near, c.far} {
		if side != nil {
			_ = side.SetLinger(0)
			_ = side.Close()
		}
	}
}
