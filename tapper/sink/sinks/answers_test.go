package sinks_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"qstream/tapper/sink/sinktest"
)

// answering is a server of HTTP/1 that hears a request's header and then does
// what it is told to do.
func answering(t *testing.T, answer func(c net.Conn, r *http.Request)) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReaderSize(c, 512)); err == nil {
				answer(c, r)
			}
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// posting are the sinks that make requests, by their spec for a server.
func posting(t *testing.T) map[string]func(addr string) string {
	key := writeFile(t, "key", s3Access+"\n"+s3Secret+"\n")
	secret := writeFile(t, "secret", hookSecret+"\n")
	return map[string]func(string) string{
		"s3":      func(addr string) string { return "s3://copies endpoint=http://" + addr + " key_file=" + key },
		"webhook": func(addr string) string { return "http://" + addr + "/copies secret_file=" + secret },
	}
}

// TestRefusedMidway: a server says why it refuses, and closes, while most of a
// large copy is still to come: that is what is told, not that the connection
// broke.
func TestRefusedMidway(t *testing.T) {
	for name, spec := range posting(t) {
		t.Run(name, func(t *testing.T) {
			s := open(t, spec(answering(t, func(c net.Conn, r *http.Request) {
				if r.Header.Get("Expect") != "" {
					_, _ = io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
				}
				_, _ = io.CopyN(io.Discard, r.Body, 100<<10)
				_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\nContent-Length: 25\r\nConnection: close\r\n\r\n<Code>AccessDenied</Code>")
			})))
			for range 3 {
				err := s.Put(t.Context(), sinktest.Large(1, 16<<20, nil))
				if err == nil || !strings.Contains(err.Error(), "answer 403: <Code>AccessDenied</Code>") {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestS3AsksFirst: nothing of a large copy is sent to a store that refuses it.
func TestS3AsksFirst(t *testing.T) {
	var sent atomic.Int64
	addr := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}))
	s := open(t, posting(t)["s3"](addr))
	c := sinktest.Large(1, 20<<20, &sent)
	read := int64(0)
	for range 10 { // on a busy machine the answer may come too late
		sent.Store(0)
		if err := s.Put(t.Context(), c); err == nil || !strings.Contains(err.Error(), "answer 403") {
			t.Fatal(err)
		}
		if read = sent.Load(); read <= c.Size { // once, for its hash
			return
		}
	}
	t.Errorf("read %d octets of %d", read, c.Size)
}

// TestS3NewSecret: a secret that is changed in the key file is used from then on.
func TestS3NewSecret(t *testing.T) {
	b := &bucket{objects: map[string][]byte{}}
	key := writeFile(t, "key", s3Access+"\nan old secret\n")
	s := open(t, "s3://copies endpoint=http://"+serve(t, b)+" key_file="+key)
	c := sinktest.Full(1, sinktest.Content(1))
	if err := s.Put(t.Context(), c); err == nil || !strings.Contains(err.Error(), "SignatureDoesNotMatch") {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, []byte(s3Access+"\n"+s3Secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, s, c)
	if got := b.copies(); len(got) != 1 {
		t.Errorf("%d objects", len(got))
	}
}

// TestAnswers are those of servers that don't do what they should: none is taken
// for more than it says, and none holds a sink up for longer than its time.
func TestAnswers(t *testing.T) {
	elsewhere := serve(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	endless := func(c net.Conn) {
		line := []byte(strings.Repeat("<x>\x1b[31m", 1000))
		for {
			if _, err := c.Write(line); err != nil {
				return
			}
		}
	}
	for _, c := range []struct {
		name   string
		answer func(c net.Conn)
		want   string // of the error; empty: what ends it is its time
	}{
		{"a redirect", func(c net.Conn) {
			fmt.Fprintf(c, "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://%s/\r\nContent-Length: 0\r\n\r\n", elsewhere)
		}, "answer 307"},
		{"a refusal without an end", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 500 No\r\n\r\n")
			endless(c)
		}, "answer 500: <x>"},
		{"a header without an end", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: ")
			endless(c)
		}, "header"},
		{"an answer that breaks off", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 100\r\n\r\nhalf")
		}, "unexpected EOF"},
		{"nothing", func(net.Conn) {}, "EOF"},
		{"no HTTP", func(c net.Conn) { _, _ = io.WriteString(c, "220 mx.example ESMTP\r\n") }, "malformed"},
		{"an answer that stands still", func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 100\r\n\r\nhalf")
			_, _ = io.Copy(io.Discard, c)
		}, ""},
		{"silence", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, ""},
	} {
		for name, spec := range posting(t) {
			t.Run(name+" "+c.name, func(t *testing.T) {
				s := open(t, spec(answering(t, func(conn net.Conn, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					c.answer(conn)
				})))
				limit := time.Minute
				if c.want == "" {
					limit = 300 * time.Millisecond
				}
				ctx, stop := context.WithTimeout(t.Context(), limit)
				defer stop()
				err := s.Put(ctx, sinktest.Envelope(1))
				if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 500 || strings.ContainsAny(err.Error(), "\x1b\n") {
					t.Errorf("%.600q", fmt.Sprint(err))
				}
			})
		}
	}
	t.Run("s3 a page to log in at", func(t *testing.T) {
		s := open(t, posting(t)["s3"](serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "<html>welcome")
		}))))
		if err := s.Put(t.Context(), sinktest.Envelope(1)); err == nil || !strings.Contains(err.Error(), "without ETag") {
			t.Error(err)
		}
	})
}
