package office

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/docket"
)

// Config is what a Server works with. Docket and Folder are required.
type Config struct {
	Docket *docket.Docket
	Folder docket.Folder
	// Active is whether this process writes the vault's logs; others can't answer.
	Active func() bool
	// Listen is an address for officers of other hosts, over TLS; empty: none.
	// TLS is required then, with the certificates of who may connect at all.
	Listen string
	TLS    *tls.Config
	// Gaps reports on an order's copies; nil: it can't be asked.
	Gaps func(ctx context.Context, order string) (any, error)
	Now  func() time.Time // default time.Now
	Log  *slog.Logger     // default: discards
}

// Server is the office of a vault.
type Server struct {
	cfg   Config
	admit *admission
	slots chan struct{}

	mu   sync.Mutex
	addr string // of Listen, once it is open
	open bool
}

// New checks cfg; it starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Docket == nil || cfg.Folder.Dir == "" {
		return nil, errors.New("office: docket and folder are required")
	}
	if cfg.Listen != "" && (cfg.TLS == nil || cfg.TLS.ClientAuth != tls.RequireAndVerifyClientCert || len(cfg.TLS.Certificates) == 0) {
		return nil, errors.New("office: an address needs TLS with a certificate, and the authority of the officers' certificates")
	}
	if cfg.Active == nil {
		cfg.Active = func() bool { return true }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: cfg, admit: newAdmission(cfg.Docket.Vault()), slots: make(chan struct{}, mostAtOnce)}, nil
}

// Run serves until ctx ends. Call it once.
func (s *Server) Run(ctx context.Context) error {
	socket, err := listenSocket(docket.Socket(s.cfg.Folder.Dir))
	if err != nil {
		return fmt.Errorf("office: %w", err)
	}
	listeners := []net.Listener{socket}
	if s.cfg.Listen != "" {
		l, err := net.Listen("tcp", s.cfg.Listen)
		if err != nil {
			return errors.Join(fmt.Errorf("office: %w", err), socket.Close())
		}
		listeners = append(listeners, tls.NewListener(l, s.cfg.TLS))
	}
	s.opened(listeners)
	g, ctx := errgroup.WithContext(ctx)
	for i, l := range listeners {
		srv := &http.Server{
			Handler: s.handler(i == 0), ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: time.Minute,
			MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		}
		g.Go(func() error {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("office: %w", err)
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			return srv.Close() // who waits for an answer asks again
		})
	}
	g.Go(func() error { s.tellStrangers(ctx); return nil })
	return g.Wait()
}

func (s *Server) opened(listeners []net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = true
	if len(listeners) > 1 {
		s.addr = listeners[1].Addr().String()
	}
}

// Addr is the address of Listen once it is open; empty without one.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

// Ready is nil once officers can come.
func (s *Server) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.open {
		return errors.New("office: not open yet")
	}
	return nil
}

// listenSocket makes the socket, in the place of one that a process left that is
// gone.
func listenSocket(name string) (net.Listener, error) {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", name) // the folder is its owner's alone
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// tellStrangers puts strangers' attempts into the audit, their number alone.
func (s *Server) tellStrangers(ctx context.Context) {
	t := time.NewTicker(time.Minute)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if n := s.admit.attempts(); n > 0 && s.cfg.Active() {
			ctx, cancel := bounded(ctx)
			_ = s.cfg.Docket.Note(ctx, &pb.TapAct{Action: "strangers turned away", Count: n})
			cancel()
		}
	}
}

// handler answers requests; local are those by the socket.
func (s *Server) handler(local bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slots <- struct{}{}:
			defer func() { <-s.slots }()
		default:
			s.admit.turnedAway()
			answerStranger(w)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, mostBody))
		if err != nil || r.Method != http.MethodPost || r.URL.Path != path {
			s.admit.turnedAway()
			answerStranger(w)
			return
		}
		req, v := s.admit.admit(s.cfg.Docket.Officers(), body, r.Header.Get(signatureHeader), s.cfg.Now())
		client := "socket"
		if !local {
			client = r.RemoteAddr
		}
		switch v {
		case stranger:
			answerStranger(w)
		case tooFast:
			answer(w, http.StatusTooManyRequests, refusal{"refused", "too many requests; wait some seconds"})
		case admitted:
			ctx, cancel := bounded(r.Context())
			defer cancel()
			out, err := s.serve(ctx, req, client)
			if err != nil {
				answer(w, http.StatusUnprocessableEntity, refusal{codeOf(err), err.Error()})
				return
			}
			answer(w, http.StatusOK, out)
		}
	})
}

// answerStranger is the one answer to whoever isn't an officer.
func answerStranger(w http.ResponseWriter) {
	w.Header().Set("Connection", "close")
	http.Error(w, "not found", http.StatusNotFound)
}

func answer(w http.ResponseWriter, code int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		text, code = []byte(`{"code":"refused","text":"the answer can't be written"}`), http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(text)
}
