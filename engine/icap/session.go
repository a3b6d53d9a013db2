package icap

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/textproto"
	"os"
	"strconv"
	"strings"

	"qstream/engine"
)

const (
	chunkSize = 32 << 10
	maxAnswer = 64 << 10 // of headers; bodies aren't read
)

// errTooLarge is content above Config.MaxSize whose size wasn't told.
var errTooLarge = errors.New("content is too large")

// session is one request.
type session struct {
	cfg  *Config
	conn *engine.Conn
	in   *textproto.Reader
	host string
}

// response is an answer's head.
type response struct {
	code   int
	header textproto.MIMEHeader
}

func newSession(cfg *Config, conn *engine.Conn) *session {
	s := &session{cfg: cfg, conn: conn, host: cfg.Address}
	if cfg.Network == "unix" {
		s.host = "localhost"
	}
	s.in = textproto.NewReader(bufio.NewReader(io.LimitReader(conn, maxAnswer)))
	return s
}

func (s *session) write(text string) error {
	if _, err := io.WriteString(s.conn, text); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return engine.Fail(engine.Late, "the server takes nothing: %w", err)
		}
		return engine.Fail(engine.Broken, "send to the server: %w", err)
	}
	return nil
}

func (s *session) head(method string) string {
	return fmt.Sprintf("%s icap://%s/%s ICAP/1.0\r\nHost: %s\r\nUser-Agent: qstream\r\nConnection: close\r\n",
		method, s.host, strings.TrimPrefix(s.cfg.Service, "/"), s.host)
}

func (s *session) options() (response, error) {
	if err := s.write(s.head("OPTIONS") + "Encapsulated: null-body=0\r\n\r\n"); err != nil {
		return response{}, err
	}
	return s.read()
}

// read is the next answer's head.
func (s *session) read() (response, error) {
	line, err := s.in.ReadLine()
	if err != nil {
		return response{}, failed(err)
	}
	version, rest, _ := strings.Cut(line, " ")
	code, err := strconv.Atoi(rest[:min(3, len(rest))])
	if !strings.HasPrefix(version, "ICAP/1.") || err != nil || code < 100 {
		return response{}, engine.Fail(engine.Broken, "the server says %q", engine.Text(line))
	}
	header, err := s.in.ReadMIMEHeader()
	if err != nil {
		return response{}, failed(err)
	}
	return response{code: code, header: header}, nil
}

func failed(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return engine.Fail(engine.Late, "no answer from the server: %w", err)
	}
	return engine.Fail(engine.Broken, "read the server's answer: %w", err)
}

// request is the head with the HTTP exchange that the body belongs to
// (RFC 3507 4.8, 4.9).
func (s *session) request(size int64) string {
	kind := fmt.Sprintf("Content-Type: message/rfc822\r\nContent-Length: %d\r\n", size)
	get := "GET http://qstream.invalid/message HTTP/1.1\r\nHost: qstream.invalid\r\n\r\n"
	ok := "HTTP/1.1 200 OK\r\n" + kind + "\r\n"
	parts := fmt.Sprintf("req-hdr=0, res-hdr=%d, res-body=%d", len(get), len(get)+len(ok))
	if s.cfg.Method == "REQMOD" {
		get, ok = "POST http://qstream.invalid/message HTTP/1.1\r\nHost: qstream.invalid\r\n"+kind+"\r\n", ""
		parts = fmt.Sprintf("req-hdr=0, req-body=%d", len(get))
	}
	return s.head(s.cfg.Method) + fmt.Sprintf("Allow: 204\r\nPreview: %d\r\nEncapsulated: %s\r\n\r\n", s.cfg.Preview, parts) + get + ok
}

// scan sends the preview, then the rest if the server wants it.
func (s *session) scan(content *engine.Content, size int64) (engine.Verdict, error) {
	if err := s.write(s.request(size)); err != nil {
		return s.early(err)
	}
	buf := make([]byte, s.cfg.Preview+1) // one more tells whether that is all
	n, err := fill(content, buf)
	if err != nil {
		return engine.Verdict{}, err
	}
	whole := n <= s.cfg.Preview
	if whole && int64(n) != size {
		return engine.Verdict{}, otherSize(content, size)
	}
	first := buf[:min(n, s.cfg.Preview)]
	end := "0\r\n\r\n"
	if whole {
		end = "0; ieof\r\n\r\n" // RFC 3507 4.5
	}
	if err := s.write(chunk(first) + end); err != nil {
		return s.early(err)
	}
	r, err := s.read()
	if err != nil {
		return engine.Verdict{}, err
	}
	if r.code == 100 && !whole {
		if err := s.rest(content, size, buf[s.cfg.Preview:n]); err != nil {
			return s.early(err)
		}
		whole = true
		if r, err = s.read(); err != nil {
			return engine.Verdict{}, err
		}
	}
	return s.verdict(r, whole)
}

// fill reads until buf is full or content ends.
func fill(content *engine.Content, buf []byte) (int, error) {
	n, err := io.ReadFull(content, buf)
	if content.Err() != nil {
		return n, engine.Fail(engine.Unreadable, "read content: %w", content.Err())
	}
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return n, err
	}
	return n, nil
}

// chunk is one of RFC 9112 7.1; nothing for no bytes, which would be the end.
func chunk(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return strconv.FormatInt(int64(len(b)), 16) + "\r\n" + string(b) + "\r\n"
}

// rest sends what follows the preview, and the end.
func (s *session) rest(content *engine.Content, size int64, first []byte) error {
	if err := s.write(chunk(first)); err != nil {
		return err
	}
	buf := make([]byte, chunkSize)
	for {
		n, err := fill(content, buf)
		if err != nil {
			return err
		}
		if content.Bytes() > s.cfg.MaxSize {
			return errTooLarge
		}
		if n == 0 && content.Bytes() != size {
			return otherSize(content, size)
		}
		if n == 0 {
			return s.write("0\r\n\r\n")
		}
		if err := s.write(chunk(buf[:n])); err != nil {
			return err
		}
	}
}

func otherSize(content *engine.Content, size int64) error {
	return engine.Fail(engine.Unreadable, "content has %d bytes, not the %d that were told", content.Bytes(), size)
}

// early is what a server said that stopped reading. Only bad news is believed,
// for it hasn't seen it all.
func (s *session) early(cause error) (engine.Verdict, error) {
	var f *engine.Failure
	if errors.As(cause, &f) && f.Reason == engine.Broken {
		if r, err := s.read(); err == nil {
			if v, err := s.verdict(r, false); err == nil && v.Bad() {
				return v, nil
			}
		}
	}
	return engine.Verdict{}, cause
}
