package rig

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// IDHeader is the header field that carries the identity of a load's mail;
// the sinks count by it.
const IDHeader = "X-Test-Id"

// Load is a source of mail that remembers what became of each, as an honest
// client knows it: accepted by a 250, refused by another reply, or unsure
// because no reply came after the final dot.
type Load struct {
	Addr     string
	Sessions int                          // connections at a time; default 10
	Rate     float64                      // mails a second in all; 0: as fast as they go
	Size     int                          // bytes of content, about; default 2000
	To       func(n int) string           // recipient of the nth mail
	From     func(identity string) string // reverse-path; default always load@client.example
	Sized    func(n int) int              // bytes of the nth mail, about; default Size of all
	Wait     time.Duration                // for one mail's dialogue; default Patience

	mu       sync.Mutex
	next     int
	accepted map[string]string // identity -> message id
	unsure   map[string]bool
	refused  map[string]int // reply -> count
	latency  []time.Duration
}

// Run hands mail in until ctx ends, n mails were tried, or n is 0. Broken
// connections are made again.
func (l *Load) Run(ctx context.Context, n int) {
	if l.Sessions == 0 {
		l.Sessions = 10
	}
	if l.Size == 0 {
		l.Size = 2000
	}
	if l.From == nil {
		l.From = func(string) string { return "load@client.example" }
	}
	if l.Sized == nil {
		l.Sized = func(int) int { return l.Size }
	}
	if l.Wait == 0 {
		l.Wait = Patience
	}
	l.mu.Lock()
	l.accepted, l.unsure, l.refused = map[string]string{}, map[string]bool{}, map[string]int{}
	l.mu.Unlock()
	var pace <-chan time.Time
	if l.Rate > 0 {
		t := time.NewTicker(time.Duration(float64(time.Second) / l.Rate))
		defer t.Stop()
		pace = t.C
	}
	var wg sync.WaitGroup
	for range l.Sessions {
		wg.Go(func() { l.session(ctx, n, pace) })
	}
	wg.Wait()
}

// take is the number of the next mail to try.
func (l *Load) take(n int) (int, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n > 0 && l.next >= n {
		return 0, false
	}
	l.next++
	return l.next, true
}

// session keeps one connection busy.
func (l *Load) session(ctx context.Context, n int, pace <-chan time.Time) {
	var c *dialogue
	defer func() {
		if c != nil {
			c.conn.Close()
		}
	}()
	for ctx.Err() == nil {
		if pace != nil {
			select {
			case <-pace:
			case <-ctx.Done():
				return
			}
		}
		if c == nil || c.err != nil {
			if c != nil {
				c.conn.Close()
			}
			if c = open(l.Addr, l.Wait); c == nil {
				time.Sleep(50 * time.Millisecond)
				continue
			}
		}
		i, ok := l.take(n)
		if !ok {
			return
		}
		l.hand(c, i)
	}
}

func open(addr string, wait time.Duration) *dialogue {
	conn, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		return nil
	}
	c := &dialogue{conn: conn, r: bufio.NewReader(conn), log: io.Discard}
	_ = conn.SetDeadline(time.Now().Add(wait))
	c.want("2")
	c.say("2", "EHLO load.example")
	if c.err != nil {
		conn.Close()
		return nil
	}
	return c
}

// hand hands in one mail and records its fate. A refusal leaves the session
// usable.
func (l *Load) hand(c *dialogue, n int) {
	identity := fmt.Sprintf("load-%d-%s", n, Token())
	_ = c.conn.SetDeadline(time.Now().Add(l.Wait))
	to, began := l.To(n), time.Now()
	for _, line := range []string{"MAIL FROM:<" + l.From(identity) + ">", "RCPT TO:<" + to + ">", "DATA"} {
		c.say("", "%s", line)
		if c.err != nil {
			return
		}
		if c.last[0] != '2' && c.last[0] != '3' {
			l.refuse(c.last)
			c.say("", "RSET")
			return
		}
	}
	if _, err := c.conn.Write(stuffed(l.content(identity, to, l.Sized(n)))); err != nil {
		c.err = err
		l.doubt(identity)
		return
	}
	c.want("")
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case c.err != nil:
		l.unsure[identity] = true
	case c.last[0] == '2':
		fields := strings.Fields(c.last)
		l.accepted[identity] = fields[len(fields)-1]
		l.latency = append(l.latency, time.Since(began))
	default:
		// A 451 may have been stored nevertheless: the client tries again.
		l.unsure[identity] = true
		l.refused[c.last]++
	}
}

func (l *Load) content(identity, to string, size int) []byte {
	return []byte("From: <load@client.example>\r\nTo: <" + to + ">\r\nSubject: load\r\n" + IDHeader + ": " + identity +
		"\r\n\r\n" + strings.Repeat("The quick brown fox jumps over the lazy dog.\r\n", 1+size/46))
}

func (l *Load) refuse(reply string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused[reply]++
}

func (l *Load) doubt(identity string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsure[identity] = true
}

// Accepted is how many mails got a 250 so far.
func (l *Load) Accepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// Fates are the identities of the accepted mails with their message ids.
func (l *Load) Fates() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.accepted)
}

// IDs are the message ids of the accepted mails.
func (l *Load) IDs() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.accepted))
}

// Refused are the replies that were no 250, with their counts.
func (l *Load) Refused() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]int{}
	for k, v := range l.refused {
		out[k] = v
	}
	return out
}

// Latencies are from MAIL to the 250 of the accepted mails, in the order of
// their acceptance.
func (l *Load) Latencies() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]time.Duration(nil), l.latency...)
}

// Tally compares what was accepted with what arrived.
type Tally struct {
	Accepted   int
	Lost       []string // accepted, never arrived: identity and message id
	Duplicates int      // arrivals beyond the first
	Twice      []string // arrived more than once: identity and message id, if it is known
	Strange    int      // arrived, but neither accepted nor unsure
}

// Tally counts arrivals by identity, as fakemx.Server.Counts gives them.
func (l *Load) Tally(arrived map[string]int) Tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := Tally{Accepted: len(l.accepted)}
	for identity, id := range l.accepted {
		if arrived[identity] == 0 {
			t.Lost = append(t.Lost, identity+" "+id)
		}
	}
	for identity, n := range arrived {
		t.Duplicates += n - 1
		if n > 1 {
			t.Twice = append(t.Twice, strings.TrimSpace(identity+" "+l.accepted[identity]))
		}
		if _, ok := l.accepted[identity]; !ok && !l.unsure[identity] {
			t.Strange++
		}
	}
	return t
}
