package qmtp

import (
	"context"
	"errors"

	"qstream/mail"
	"qstream/transport"
	"qstream/wire"
)

// failure ends an attempt at one address before anybody can have taken the
// message.
type failure struct {
	at     transport.Phase
	status mail.Status
	final  bool // no other address would help
}

// broken is a failure of the connection, in RFC 3463's words: 4.4.1 no answer
// from host, 4.4.2 bad connection, 4.5.0 protocol.
func broken(at transport.Phase, err error) *failure {
	s := mail.Status{Code: 451, Enhanced: "4.4.2", Text: "connection lost: " + transport.Reason(err)}
	switch {
	case errors.Is(err, wire.ErrAnswer), errors.Is(err, wire.ErrNetstring), errors.Is(err, wire.ErrNetstringSize):
		s.Enhanced, s.Text = "4.5.0", mail.Printable(err.Error())
	case at == transport.AtConnect:
		s.Enhanced, s.Text = "4.4.1", "connection failed: "+transport.Reason(err)
	}
	return &failure{at: at, status: s}
}

// unreadable is content that can't be read: our side's trouble.
func unreadable() *failure {
	return &failure{at: transport.AtContent, final: true, status: mail.Status{Code: 451, Enhanced: "4.3.0", Text: "content could not be read"}}
}

func lookupFailure(name string, err error) *failure {
	f := &failure{at: transport.AtLookup, final: true}
	if !errors.As(err, &f.status) {
		f.status = mail.Status{Code: 451, Enhanced: "4.4.3", Text: "lookup failed"}
	}
	f.status.Text = name + ": " + f.status.Text
	return f
}

// outcome is what a failure means for the recipients.
func (f *failure) outcome(early context.Context) transport.Outcome {
	switch {
	case early.Err() != nil:
		return transport.Outcome{Kind: transport.Cut, At: f.at,
			Status: mail.Status{Code: 451, Enhanced: "4.3.2", Text: "attempt cut short by the sending side"}}
	case f.status.Permanent():
		return transport.Outcome{Kind: transport.Decided, At: f.at, Status: f.status}
	}
	return transport.Outcome{Kind: transport.Failed, At: f.at, Status: f.status}
}
