package sinks

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"qstream/mail"
	"qstream/tapper/sink"
)

// small is content that is held in memory instead of being read twice, where
// its hash goes ahead of it.
const small = 1 << 20

// opener opens the same bytes each time it is called.
type opener func(ctx context.Context) (io.ReadCloser, error)

// kept is open with small content read just once.
func kept(ctx context.Context, open opener, size int64) (opener, error) {
	if size > small {
		return open, nil
	}
	r, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, small+1))
	if err != nil {
		return nil, err
	}
	return fixed(text), nil
}

func fixed(text []byte) opener {
	return func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
}

// digest reads what open opens into w. A size other than what was told fails.
func digest(ctx context.Context, open opener, size int64, w io.Writer) error {
	r, err := open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	n, err := io.Copy(w, within(ctx, r))
	if err == nil && n != size {
		err = sink.ErrSize
	}
	return err
}

// poster makes requests. It follows no redirects: what a sink is given goes
// where its Spec says, and nowhere else.
type poster struct{ client *http.Client }

func newPoster(cfg *tls.Config) poster {
	return poster{&http.Client{
		Transport: &http.Transport{
			DialContext: dial, TLSClientConfig: cfg, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8,
			IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 30 * time.Second,
			ResponseHeaderTimeout: 2 * time.Minute, ExpectContinueTimeout: time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// do sends a request; every answer but 2xx is an error, and one of these that
// proper, unless it is nil, doesn't take.
func (p poster) do(r *http.Request, proper func(http.Header) error) error {
	answer, err := p.client.Do(r)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) { // without the URL, which may hold a secret
			err = u.Err
		}
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 4<<10))
	if answer.StatusCode/100 == 2 {
		if err == nil && proper != nil { // an answer that breaks off may be none
			err = proper(answer.Header)
		}
		return err
	}
	said := strings.Join(strings.Fields(mail.Printable(string(text))), " ")
	return fmt.Errorf("answer %d: %s", answer.StatusCode, strings.ToValidUTF8(said[:min(len(said), 200)], ""))
}

func (p poster) close() { p.client.CloseIdleConnections() }

// lines are the lines of a file with secrets that say something.
func lines(file string) ([]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read secrets: %w", err)
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			all = append(all, line)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("read secrets: %s holds none", file)
	}
	return all, nil
}

// encodedSize is the size of n octets in base64.
func encodedSize(n int64) int64 { return (n + 2) / 3 * 4 }

// encoder reads in base64, without lines.
type encoder struct {
	r    io.Reader
	raw  [48 << 10]byte
	text []byte
	err  error
}

func (e *encoder) Read(p []byte) (int, error) {
	for len(e.text) == 0 {
		if e.err != nil {
			return 0, e.err
		}
		var n int
		n, e.err = io.ReadFull(e.r, e.raw[:])
		if e.err == io.ErrUnexpectedEOF {
			e.err = io.EOF
		}
		if e.err == nil || e.err == io.EOF {
			e.text = base64.StdEncoding.AppendEncode(e.text[:0], e.raw[:n])
		}
	}
	n := copy(p, e.text)
	e.text = e.text[n:]
	return n, nil
}
