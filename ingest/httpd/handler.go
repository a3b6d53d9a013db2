package httpd

import (
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"qstream/ingest/idempotency"
	"qstream/ingest/listener"
	"qstream/ingest/share"
)

// maxHeader bounds a request's header, in octets.
const maxHeader = 64 << 10

// What a client still sends behind its answer is read for a while: closing at
// once would reset the connection, and the answer would be lost on the way.
const (
	lastReads  = 5 * time.Second
	drainLimit = 64 << 20 // octets
)

// Handler answers requests; it is safe for concurrent use.
type Handler struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	json    *share.Shares // memory for JSON
	// Loopback serves only clients of this host, who ask it by such a name: a
	// page that a browser loaded elsewhere can't.
	Loopback bool
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.EnableFullDuplex() // else net/http reads on before it answers; a recorder can't
	x := &exchange{h: h, r: r, body: listener.Paced(r.Body, control.SetReadDeadline, h.cfg.limits())}
	a, err := x.serve()
	if err != nil { // the client went away, or is too slow
		h.deps.Log.Info("client turned away", "stage", "ingest", "host", x.who.peer.Addr.Addr().String(), "reason", "http body", "err", err)
		a = problemAnswer(refuse(http.StatusRequestTimeout, "the request did not come to its end"))
	}
	// What follows a body that wasn't read is no request. Behind a chunked one
	// it could be one that a proxy in between never saw: net/http hides whether
	// there was a Content-Length, too (RFC 9112 6.1).
	if !x.whole || len(r.TransferEncoding) > 0 {
		w.Header().Set("Connection", "close")
	}
	h.metrics.answered(a.status)
	now := time.Now()
	// A deadline can't be set on what is broken, which Write tells.
	_ = control.SetReadDeadline(now.Add(lastReads))
	_ = control.SetWriteDeadline(now.Add(h.cfg.WriteTimeout))
	if err := a.write(w); err != nil {
		h.deps.Log.Debug("answer not sent", "stage", "ingest", "err", err)
		return
	}
	if !x.whole && err == nil && r.Header.Get("Expect") == "" && control.Flush() == nil {
		_, _ = io.CopyN(io.Discard, r.Body, drainLimit) // whatever ends it, this is the end
	}
}

// exchange is one request and its answer.
type exchange struct {
	h     *Handler
	r     *http.Request
	body  io.Reader
	whole bool // the body was read to its end
	who   client
	once  *once // nil: no idempotency key
}

// serve makes the answer; an error is the client's connection's.
func (x *exchange) serve() (answer, error) {
	a, err := x.take()
	var p *problem
	if errors.As(err, &p) {
		return problemAnswer(p), nil
	}
	if lost(err) {
		return answer{}, err
	}
	if err != nil {
		x.h.deps.Log.Warn("request failed", "stage", "ingest", "host", x.who.peer.Addr.Addr().String(), "err", err)
		return problemAnswer(refuse(http.StatusServiceUnavailable, "local trouble, try again later")), nil
	}
	return a, nil
}

// lost reports an error of the client's stream.
func lost(err error) bool {
	var stream *streamError
	return errors.As(err, &stream)
}

// streamError is an error of reading the body.
type streamError struct{ error }

func (e *streamError) Unwrap() error { return e.error }

func (x *exchange) take() (answer, error) {
	if err := x.admissible(); err != nil {
		return answer{}, err
	}
	kind, params, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil || kind != "message/rfc822" && kind != "application/json" || kind == "application/json" && !isUTF8(params["charset"]) {
		return answer{}, refuse(http.StatusUnsupportedMediaType, "want message/rfc822, or application/json in UTF-8")
	}
	if coding := x.r.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return answer{}, refuse(http.StatusUnsupportedMediaType, "want a body without content coding")
	}
	if err := x.identify(); err != nil {
		return answer{}, err
	}
	if err := x.lookUp(); err != nil {
		return answer{}, err
	}
	if kind == "message/rfc822" {
		return x.raw()
	}
	return x.fromJSON()
}

func isUTF8(charset string) bool { return charset == "" || strings.EqualFold(charset, "utf-8") }

// admissible finds out who asks, and looks at what needs no body.
func (x *exchange) admissible() error {
	who, served := x.r.Context().Value(clientKey{}).(client)
	if !served {
		addr, err := netip.ParseAddrPort(x.r.RemoteAddr)
		if err != nil {
			return refuse(http.StatusForbidden, "no client address")
		}
		who = client{peer: Peer{Addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())}, ctx: context.WithoutCancel(x.r.Context())}
	}
	who.peer.Gone = func() bool { return x.r.Context().Err() != nil }
	x.who = who
	if x.h.Loopback && !(who.peer.Addr.Addr().IsLoopback() && LoopbackName(x.r.Host)) {
		return refuse(http.StatusForbidden, "only programs of this host are served here")
	}
	if x.r.URL.Path != Path {
		return refuse(http.StatusNotFound, "messages are posted to %s", Path)
	}
	if x.r.Method != http.MethodPost {
		return refuse(http.StatusMethodNotAllowed, "messages are posted")
	}
	if err := crossOrigin.Check(x.r); err != nil {
		return refuse(http.StatusForbidden, "a page from elsewhere may not send mail")
	}
	return nil
}

var crossOrigin = http.NewCrossOriginProtection()

// LoopbackName reports whether a request's Host names the host that it was sent
// from. A page that a browser loaded from elsewhere can't ask by such a name,
// whatever address its own name has come to lead to.
func LoopbackName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// lookUp looks at the idempotency key, if there is one.
func (x *exchange) lookUp() error {
	values := x.r.Header.Values("Idempotency-Key")
	if len(values) == 0 {
		return nil
	}
	text, ok := parseKey(values)
	if !ok {
		return refuse(http.StatusBadRequest, "the idempotency key has to be one string of 1 to 255 visible characters")
	}
	key := idempotency.KeyOf(x.scope(), text)
	former, err := x.h.deps.Keys.Look(x.who.ctx, key)
	if err != nil {
		return refuse(http.StatusServiceUnavailable, "idempotency keys can't be looked up at the moment")
	}
	if wait := former.Taken(); wait > 0 {
		return taken(wait)
	}
	x.once = &once{x: x, key: key, former: former}
	return nil
}

// scope names who asks: a user, or without one a host.
func (x *exchange) scope() string {
	if x.who.peer.Auth.User == "" {
		return "host " + x.who.peer.Addr.Addr().String()
	}
	return "user " + x.who.peer.Auth.User
}

// taken is the answer to a key that another request has: the client tries
// again soon, since that is mostly over at once.
func taken(within time.Duration) *problem {
	p := refuse(http.StatusConflict, "a request with this idempotency key is under way, for %v at most", within.Round(time.Second))
	p.wait = retryAfter[http.StatusConflict]
	if within > 10*time.Second {
		p.wait = 5
	}
	return p
}

// parseKey takes a string as structured fields have it (RFC 9651 3.3.3), or
// without quotes.
func parseKey(values []string) (string, bool) {
	if len(values) != 1 {
		return "", false
	}
	text := strings.Trim(values[0], " \t")
	if inner, quoted := strings.CutPrefix(text, `"`); quoted {
		var b strings.Builder
		for {
			if inner == "" {
				return "", false
			}
			c := inner[0]
			inner = inner[1:]
			if c == '"' {
				break
			}
			if c == '\\' {
				if inner == "" || inner[0] != '"' && inner[0] != '\\' {
					return "", false
				}
				c, inner = inner[0], inner[1:]
			}
			b.WriteByte(c)
		}
		if inner != "" {
			return "", false
		}
		text = b.String()
	} else if strings.ContainsAny(text, " \t\",;") {
		return "", false
	}
	visible := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) < 0
	return text, visible && len(text) >= 1 && len(text) <= 255
}

// streamed reads the body, and marks its errors as the stream's own.
type streamed struct{ x *exchange }

func (s streamed) Read(p []byte) (int, error) {
	n, err := s.x.body.Read(p)
	s.x.whole = s.x.whole || errors.Is(err, io.EOF)
	if err != nil && !isEOF(err) {
		err = &streamError{err}
	}
	return n, err
}
