package auth

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/emersion/go-sasl"

	"qstream/directory"
	"qstream/mail"
)

// Exchange is one try of a client to sign in. It is not safe for concurrent
// use.
type Exchange struct {
	a         *Authenticator
	ctx       context.Context
	client    Client
	mechanism string
	server    sasl.Server
	who       Identity
	failed    string // the user who failed to, if there is one of that name
	checked   bool   // the response was understood, and somebody asked about it
}

// Begin starts an exchange; nil if the mechanism isn't offered to the client.
func (a *Authenticator) Begin(ctx context.Context, c Client, mechanism string) *Exchange {
	snap := a.deps.Snapshot()
	if snap == nil || !a.offers(snap, c, mechanism) {
		return nil
	}
	x := &Exchange{a: a, ctx: ctx, client: c, mechanism: mechanism}
	switch mechanism {
	case Plain:
		x.server = sasl.NewPlainServer(x.plain)
	case Login:
		x.server = &login{check: x.password}
	case External:
		x.server = sasl.NewExternalServer(x.external)
	case Scram:
		x.server = &scram{x: x, offered: a.offers(snap, c, ScramPlus)}
	case ScramPlus:
		x.server = &scram{x: x, binding: bindingOf(c)}
	default:
		return nil
	}
	return x
}

// Identity is who signed in, once Next has said that the exchange is done.
func (x *Exchange) Identity() Identity { return x.who }

// Next takes a response, nil if the client has sent none yet, and returns what
// to challenge the client with. A refusal comes with its delay.
func (x *Exchange) Next(response []byte) (challenge []byte, done bool, err error) {
	a := x.a
	started := a.deps.Now()
	if a.penalties.barred(x.client.Addr, started) {
		a.metrics.result(x.mechanism, "barred")
		return nil, false, fmt.Errorf("%w: too many failures from this network", ErrBusy)
	}
	challenge, done, err = x.server.Next(response)
	switch {
	case err != nil:
		err = x.refused(started, err)
	case done:
		x.who.Mechanism = x.mechanism
		a.metrics.result(x.mechanism, "ok")
		a.deps.Log.Info("signed in", "stage", "ingest", "host", x.client.Addr.String(), "user", mail.Printable(x.who.User), "mechanism", x.mechanism)
	}
	return challenge, done, err
}

// Cancel notes that the client gave up.
func (x *Exchange) Cancel() { x.a.metrics.result(x.mechanism, "cancelled") }

// refused notes a failure and waits.
func (x *Exchange) refused(started time.Time, err error) error {
	a := x.a
	host := x.client.Addr.String()
	switch {
	case errors.Is(err, ErrBusy):
		a.metrics.result(x.mechanism, "busy")
		a.deps.Log.Warn("sign-in put off", "stage", "ingest", "host", host, "mechanism", x.mechanism, "err", err)
		return err
	case errors.Is(err, ErrMalformed), !x.checked:
		a.metrics.result(x.mechanism, "malformed")
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	case !errors.Is(err, ErrRejected):
		a.metrics.result(x.mechanism, "error")
		a.deps.Log.Error("sign-in not checked", "stage", "ingest", "host", host, "mechanism", x.mechanism, "err", err)
		return err
	}
	a.metrics.result(x.mechanism, "rejected")
	a.deps.Log.Info("sign-in refused", "stage", "ingest", "host", host, "user", mail.Printable(x.failed), "mechanism", x.mechanism)
	times := a.penalties.add(x.client.Addr, a.deps.Now())
	wait(x.ctx, time.Duration(times)*a.cfg.Delay-a.deps.Now().Sub(started))
	return err
}

// plain is the end of a PLAIN exchange (RFC 4616).
func (x *Exchange) plain(identity, user, password string) error {
	if err := x.password(user, password); err != nil {
		return err
	}
	return x.as(identity)
}

// as refuses to act as another user.
func (x *Exchange) as(identity string) error {
	if identity == "" {
		return nil
	}
	if name, err := directory.NormalUser(identity); err != nil || name != x.who.User {
		return fmt.Errorf("%w: acting as another user", ErrRejected)
	}
	return nil
}

// external is the end of an EXTERNAL exchange (RFC 4422 appendix A).
func (x *Exchange) external(identity string) error {
	x.checked = true
	snap := x.a.deps.Snapshot()
	u := x.a.holder(snap, x.client)
	if u == nil {
		return fmt.Errorf("%w: nobody's certificate", ErrRejected)
	}
	x.failed = u.User
	if !u.Admits(x.client.Addr) {
		return fmt.Errorf("%w: not admitted", ErrRejected)
	}
	x.who = Identity{User: u.User}
	return x.as(identity)
}

// login is the server of LOGIN (draft-murchison-sasl-login), which go-sasl
// has no more.
type login struct {
	check func(user, password string) error
	user  string
	step  int
}

func (l *login) Next(response []byte) (challenge []byte, done bool, err error) {
	if response == nil && l.step == 0 {
		l.step = 1
		return []byte("Username:"), false, nil
	}
	if l.step < 2 {
		l.user, l.step = string(response), 2
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(response))
}
