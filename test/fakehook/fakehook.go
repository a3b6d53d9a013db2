// Package fakehook is a webhook's endpoint for tests: it verifies each post and
// answers as it is told.
package fakehook

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"qstream/tapper/sign"
)

// Secret is what the posts are signed by.
const Secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// Post is one post that the endpoint took.
type Post struct {
	ID   string
	Type string
	Body string
}

// Server is the endpoint.
type Server struct {
	listener net.Listener
	http     *http.Server
	key      sign.Key

	mu     sync.Mutex
	code   int
	asked  int
	taken  []Post
	faults []error
}

// Start listens on a free port of the loopback and takes everything.
func Start() (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	key, err := sign.ParseKey(Secret)
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, key: key, code: http.StatusNoContent}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.http.Serve(l) }()
	return s, nil
}

// URL is where it is.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() + "/hook" }

// Close ends it.
func (s *Server) Close() { _ = s.http.Close() }

// Answer makes it answer by a status code from now on.
func (s *Server) Answer(code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code = code
}

// Taken are the posts that it took, in order; err tells of those that weren't
// as they should be.
func (s *Server) Taken() (posts []Post, asked int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) > 0 {
		err = s.faults[0]
	}
	return append([]Post(nil), s.taken...), s.asked, err
}

// ServeHTTP takes a post.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err == nil {
		err = sign.Verify(r.Header, []sign.Key{s.key}, time.Now(), body)
	}
	var form struct{ Type string }
	if err == nil {
		err = json.Unmarshal(body, &form)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if err != nil {
		s.faults = append(s.faults, fmt.Errorf("post %s: %w", r.Header.Get(sign.IDHeader), err))
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if s.code/100 == 2 {
		s.taken = append(s.taken, Post{r.Header.Get(sign.IDHeader), form.Type, string(body)})
	}
	w.WriteHeader(s.code)
}
