package httpd

import (
	"errors"
	"net/http"

	"qstream/ingest/auth"
)

// identify signs the client in: by user and password (RFC 7617), or by its
// certificate.
func (x *exchange) identify() error {
	h := x.h
	given := x.r.Header.Values("Authorization")
	if len(given) == 0 {
		return x.byCertificate()
	}
	user, password, ok := x.r.BasicAuth()
	if !ok || len(given) > 1 || h.cfg.Auth == nil {
		return refuse(http.StatusUnauthorized, "sign in by user and password")
	}
	exchange := h.cfg.Auth.Begin(x.who.ctx, x.asks(), auth.Plain)
	if exchange == nil {
		return refuse(http.StatusServiceUnavailable, "passwords are not taken here at the moment")
	}
	return x.signIn(exchange, []byte("\x00"+user+"\x00"+password))
}

func (x *exchange) asks() auth.Client {
	return auth.Client{Addr: x.who.peer.Addr.Addr(), TLS: x.who.peer.TLS}
}

func (x *exchange) byCertificate() error {
	h := x.h
	if h.cfg.Auth != nil && x.who.peer.TLS != nil && len(x.who.peer.TLS.PeerCertificates) > 0 {
		if exchange := h.cfg.Auth.Begin(x.who.ctx, x.asks(), auth.External); exchange != nil {
			return x.signIn(exchange, []byte{})
		}
	}
	if h.cfg.RequireAuth {
		return refuse(http.StatusUnauthorized, "authentication required")
	}
	return nil
}

func (x *exchange) signIn(exchange *auth.Exchange, response []byte) error {
	_, done, err := exchange.Next(response)
	switch {
	case errors.Is(err, auth.ErrRejected), errors.Is(err, auth.ErrMalformed):
		return refuse(http.StatusUnauthorized, "authentication failed")
	case err != nil || !done:
		return refuse(http.StatusServiceUnavailable, "users can't be checked at the moment, try again later")
	}
	x.who.peer.Auth = exchange.Identity()
	return nil
}
