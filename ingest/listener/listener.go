// Package listener is what the front ends of the edge share: it accepts
// connections up to a limit, runs a dialogue for each, and drains them at the
// end; and a Stream is one client's connection with its time limits.
//
// Guarantee: what has begun when the end comes has Config.Grace to finish; a
// client that is waited for is sent away at once.
// Guarantee: every wait for a client has an end.
//
// It knows no protocol.
package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config bounds a server; all are required.
type Config struct {
	Service        string        // of the metrics' names: "smtp"
	MaxConnections int           // open at once
	Grace          time.Duration // for what runs at the end
}

// lastWord is how long a dialogue that is ended by force has to tell its client.
const lastWord = 2 * time.Second

// Dialogue is one client's.
type Dialogue interface {
	// Run serves the client to its end; ctx ends it by force. The connection
	// is closed behind it.
	Run(ctx context.Context)
	// Refuse tells the client that there are too many connections, instead of
	// Run.
	Refuse()
	// Drain makes Run return as soon as nothing is under way. It is called
	// while Run runs, or before.
	Drain()
}

// Server accepts connections; it is safe for concurrent use.
type Server struct {
	cfg     Config
	start   func(net.Conn) Dialogue
	log     *slog.Logger
	metrics *metrics

	mu       sync.Mutex
	open     map[Dialogue]net.Conn
	draining bool
}

// New makes a server that starts a dialogue with each client; it opens
// nothing. log and r may be nil.
func New(cfg Config, start func(net.Conn) Dialogue, log *slog.Logger, r prometheus.Registerer) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, start: start, log: log, metrics: newMetrics(cfg.Service, r), open: map[Dialogue]net.Conn{}}
}

// Dialogue makes the dialogue of a client that Serve knows nothing of, over
// whatever it is connected by.
func (s *Server) Dialogue(c net.Conn) Dialogue { return s.start(c) }

// Serve accepts connections of l until ctx ends. Then it closes l, drains the
// dialogues, and returns nil when none is left: after Config.Grace they are ended
// by force, and those that wait for their client, rather than for us, some seconds
// later.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	force, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	err := s.accept(ctx, l, func(c net.Conn) {
		wg.Go(func() { s.serve(force, c) })
	})
	s.drain()
	give := time.AfterFunc(s.cfg.Grace, cancel)
	kill := time.AfterFunc(s.cfg.Grace+lastWord, s.closeAll)
	wg.Wait()
	give.Stop()
	kill.Stop()
	return err
}

// accept hands on connections until ctx ends.
func (s *Server) accept(ctx context.Context, l net.Listener, start func(net.Conn)) error {
	backoff := 5 * time.Millisecond
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			backoff = 5 * time.Millisecond
			start(c)
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept: %w", err)
		default: // out of descriptors, or a connection that broke early
			s.log.Warn("accept", "stage", "ingest", "err", err)
			select {
			case <-time.After(backoff):
			case <-ctx.Done():
			}
			backoff = min(2*backoff, time.Second)
		}
	}
}

func (s *Server) serve(ctx context.Context, c net.Conn) {
	defer c.Close()
	d := s.start(c)
	if !s.enter(d, c) {
		s.metrics.connections.WithLabelValues("refused").Inc()
		s.log.Info("connection refused", "stage", "ingest", "service", s.cfg.Service, "host", host(c), "reason", "max_connections")
		d.Refuse()
		return
	}
	defer s.leave(d)
	s.metrics.connections.WithLabelValues("accepted").Inc()
	s.metrics.open.Inc()
	defer s.metrics.open.Dec()
	d.Run(ctx)
}

func host(c net.Conn) string {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap().String()
	}
	return ""
}

// enter makes a dialogue known; false: there are too many.
func (s *Server) enter(d Dialogue, c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) >= s.cfg.MaxConnections {
		return false
	}
	s.open[d] = c
	if s.draining {
		d.Drain()
	}
	return true
}

func (s *Server) leave(d Dialogue) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, d)
}

func (s *Server) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	for d := range s.open {
		d.Drain()
	}
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		c.Close()
	}
}
