package load

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Source hands mail in. Its fields are set before Run; Run may be called again
// when it has returned, Acked at any time.
type Source struct {
	Addr          string // of the mail system, host:port
	From          string // reverse-path; default load@client.example
	Domains       []string
	Recipients    int // of each mail, all in one domain; default 1
	Mails         *Mails
	Sessions      int           // connections at once; default 1
	PerConnection int           // mails on one connection; default 10, negative: no limit
	Rate          float64       // mails a second in all, at even times; 0: as fast as they go
	Pipelining    bool          // MAIL, RCPT and DATA in one write
	First         uint64        // number of the first mail
	Timeout       time.Duration // for one mail; default a minute
	Local         string        // address that connections come from; default the system's choice

	acked, next atomic.Int64
}

// Sent is what a source did.
type Sent struct {
	Mails       []Mail
	Recipients  int   // of each mail
	Connections int   // opened
	Failed      int   // connections that couldn't be opened or broke
	Err         error // the first reason of these
}

// Mail is one mail's story at the source; times are nanoseconds of the
// machine's monotonic clock, 0 for what didn't happen.
type Mail struct {
	ID    uint64
	Due   int64 // when it should have begun; 0 without Rate
	Begun int64 // MAIL FROM was written
	Dot   int64 // the write began that ends in the final dot: it carries the whole content
	Acked int64 // the reply to it was read
	Code  int   // the last reply; 0: the connection broke
}

// Accepted reports whether the mail got its 250.
func (m Mail) Accepted() bool { return m.Code == 250 && m.Acked != 0 }

// Acked is how many mails of the running or last Run got their 250.
func (s *Source) Acked() int { return int(s.acked.Load()) }

// Run hands in n mails, or mails until ctx ends if n is 0, and returns what
// became of each when all sessions are closed. A connection that breaks costs
// the mail that it carried; it isn't sent again.
func (s *Source) Run(ctx context.Context, n int) (Sent, error) {
	if s.Addr == "" || s.Mails == nil || len(s.Domains) == 0 {
		return Sent{}, errors.New("a source needs an address, mails and domains")
	}
	clock, err := newClock()
	if err != nil {
		return Sent{}, err
	}
	s.defaults()
	s.acked.Store(0)
	s.next.Store(0)
	var (
		wg    sync.WaitGroup
		parts = make([]Sent, s.Sessions)
		begun = clock.now()
	)
	for i := range parts {
		wg.Go(func() {
			e := session{source: s, clock: clock, begun: begun, limit: n}
			parts[i] = e.run(ctx)
		})
	}
	wg.Wait()
	all := Sent{Recipients: s.Recipients}
	for _, p := range parts {
		all.Mails = append(all.Mails, p.Mails...)
		all.Connections += p.Connections
		all.Failed += p.Failed
		if all.Err == nil {
			all.Err = p.Err
		}
	}
	return all, nil
}

func (s *Source) defaults() {
	if s.From == "" {
		s.From = "load@client.example"
	}
	s.Recipients, s.Sessions = max(s.Recipients, 1), max(s.Sessions, 1)
	if s.PerConnection == 0 {
		s.PerConnection = 10
	}
	if s.Timeout == 0 {
		s.Timeout = time.Minute
	}
}

// session is one of a source's sessions: connections one after the other.
type session struct {
	source *Source
	clock  clock
	begun  int64
	limit  int
	client *client
	used   int // mails on the client
	sent   Sent
}

func (e *session) run(ctx context.Context) Sent {
	s := e.source
	e.sent.Mails = make([]Mail, 0, 1+e.limit/s.Sessions)
	defer func() {
		if e.client != nil {
			e.client.quit()
		}
	}()
	for ctx.Err() == nil {
		n := int(s.next.Add(1)) - 1
		if e.limit > 0 && n >= e.limit {
			break
		}
		m := Mail{ID: s.First + uint64(n)}
		if s.Rate > 0 {
			m.Due = e.begun + int64(float64(n)/s.Rate*1e9)
			if !pause(ctx, time.Duration(m.Due-e.clock.now())) {
				break
			}
		}
		if !e.connect(ctx) {
			break
		}
		if err := e.client.hand(s, &m, e.clock, s.Domains[n%len(s.Domains)]); err != nil {
			m.Code = 0
			e.fail(err)
		}
		if m.Accepted() {
			s.acked.Add(1)
		}
		e.sent.Mails = append(e.sent.Mails, m)
	}
	return e.sent
}

// connect makes sure that there is a client with room for a mail. While none
// can be had it tries again; false means that ctx has ended.
func (e *session) connect(ctx context.Context) bool {
	s := e.source
	if e.client != nil && s.PerConnection > 0 && e.used >= s.PerConnection {
		e.client.quit()
		e.client = nil
	}
	for e.client == nil {
		c, err := dial(ctx, s)
		if err == nil {
			e.client, e.used = c, 0
			e.sent.Connections++
			break
		}
		e.fail(err)
		if !pause(ctx, 20*time.Millisecond) {
			return false
		}
	}
	e.used++
	return true
}

// fail counts a broken connection and lets it go.
func (e *session) fail(err error) {
	e.sent.Failed++
	if e.sent.Err == nil {
		e.sent.Err = err
	}
	if e.client != nil {
		_ = e.client.conn.Close()
		e.client = nil
	}
}

// pause waits; false means that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// recipient appends the nth address in a domain.
func recipient(buf []byte, n int, domain string) []byte {
	buf = append(buf, 'u')
	buf = strconv.AppendInt(buf, int64(n), 10)
	return append(append(buf, '@'), domain...)
}
