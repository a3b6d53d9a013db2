package smtp

import (
	"errors"

	"qstream/mail"
	"qstream/transport"
)

// failure ends a session without an outcome for the recipients that have none
// yet: another host may do better.
type failure struct {
	at     transport.Phase
	status mail.Status
	remote bool // status is the peer's own reply
	final  bool // no other host would help
	stale  bool // a reused connection that was dead: nothing was tried yet
	err    error
}

func (f *failure) Error() string { return f.at.String() + ": " + f.status.String() }
func (f *failure) Unwrap() error { return f.err }

// broken is a failure of the connection, in RFC 3463's words: 4.4.1 no answer
// from host, 4.4.2 bad connection, 4.5.0 protocol.
func broken(at transport.Phase, err error) *failure {
	s := mail.Status{Code: 451, Enhanced: "4.4.2"}
	switch {
	case errors.Is(err, errReply):
		s.Enhanced, s.Text = "4.5.0", err.Error()
	case at == transport.AtConnect:
		s.Enhanced, s.Text = "4.4.1", "connection failed: "+transport.Reason(err)
	default:
		s.Text = "connection lost: " + transport.Reason(err)
	}
	return &failure{at: at, status: s, err: err}
}

// refused is the peer's reply to a command that speaks for its whole session.
func refused(at transport.Phase, s mail.Status) *failure {
	return &failure{at: at, status: s, remote: true}
}
