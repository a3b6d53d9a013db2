package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"qstream/directory"
	"qstream/mail"
	"qstream/tapper/sign"
)

// Bounds of an answer, in octets.
const (
	maxAnswerHeader = 16 << 10
	maxAnswerBody   = 16 << 10
)

// errPrivate is an address that an endpoint may not have.
var errPrivate = errors.New("leads to an address that is not of the Internet, which its document doesn't allow")

// Poster posts to one endpoint.
type Poster struct {
	url    *url.URL
	keys   []sign.Key
	client *http.Client
	now    func() time.Time
}

// NewPoster makes a poster for a webhook. Close frees its connections.
func NewPoster(hook *directory.Webhook, now func() time.Time) (*Poster, error) {
	keys, err := sign.ParseKeys(hook.Secrets)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: hook.Timeout}
	if !hook.Private {
		// Asked of what a name led to, right before connecting: a name that
		// changes can't get around it.
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return public(address) }
	}
	transport := &http.Transport{
		Proxy: nil, DialContext: dialer.DialContext, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true, MaxConnsPerHost: hook.Concurrency, MaxIdleConnsPerHost: hook.Concurrency, IdleConnTimeout: time.Minute,
		TLSHandshakeTimeout: hook.Timeout, ResponseHeaderTimeout: hook.Timeout, MaxResponseHeaderBytes: maxAnswerHeader,
	}
	return &Poster{url: hook.URL, keys: keys, now: now, client: &http.Client{
		Transport: transport, Timeout: hook.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close frees the connections.
func (p *Poster) Close() { p.client.CloseIdleConnections() }

// Test posts a message that tells nothing and says how the endpoint answered.
func (p *Poster) Test(ctx context.Context, id string) (code int, err error) {
	body := fmt.Appendf(nil, `{"type":%q,"timestamp":%q,"data":{}}`, TestType, p.now().UTC().Format(time.RFC3339))
	a := p.post(ctx, id, body)
	if !a.taken {
		err = errors.New(a.err)
	}
	return a.code, err
}

// post makes one attempt.
func (p *Poster) post(ctx context.Context, id string, body []byte) answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url.String(), bytes.NewReader(body))
	if err != nil {
		return answer{err: mail.Printable(err.Error())}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "qstream")
	sign.Headers(req.Header, p.keys, id, p.now(), body)
	resp, err := p.client.Do(req)
	if err != nil {
		return answer{err: p.reason(err)}
	}
	defer resp.Body.Close()
	// What is read lets the connection be used again; the rest is nobody's
	// interest.
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswerBody)
	return read(resp, p.now())
}

// reason is why there is no answer, without the URL, which may hold a secret.
func (p *Poster) reason(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	text := err.Error()
	if errors.Is(err, errPrivate) {
		text = errPrivate.Error()
	}
	return mail.Printable(strings.ToValidUTF8(strings.ReplaceAll(text, p.url.String(), "the endpoint"), "?"))
}

// closed are networks that are not of the Internet beyond those that
// netip.Addr tells (RFC 6890 and its registries), and those that lead to IPv4
// by another name.
var closed = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("3fff::/20"),
	netip.MustParsePrefix("5f00::/16"), netip.MustParsePrefix("fec0::/10"),
}

// public refuses an address that is not of the Internet.
func public(address string) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return errPrivate
	}
	a := ap.Addr().Unmap().WithZone("")
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return errPrivate
	}
	for _, p := range closed {
		if p.Contains(a) {
			return errPrivate
		}
	}
	return nil
}
