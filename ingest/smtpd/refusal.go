package smtpd

import (
	"errors"

	"github.com/emersion/go-smtp"

	"qstream/mail"
)

// mostTold is how many refusals of one connection are logged: a client that
// tries every name of a dictionary shall not fill the disk. All are counted.
const mostTold = 20

// tell logs why mail was refused, for who is asked about it later: nothing
// else remembers mail that was never taken. Our own trouble (x.3.x, for now) has
// been logged by the session, with its cause. rcpt is empty beside MAIL and
// content.
func (c *conn) tell(rcpt string, err error) {
	var e *smtp.SMTPError
	if !errors.As(err, &e) || e.Code < 500 && e.EnhancedCode[1] == 3 || c.told == mostTold {
		return
	}
	c.told++
	args := []any{"stage", "ingest", "service", c.peer.Gate.Service, "host", c.peer.Addr.Addr().String(), "helo", mail.Printable(c.peer.HELO),
		"from", mail.Printable(c.from), "rcpt", mail.Printable(rcpt), "code", e.Code, "reply", mail.Printable(enhanced(e) + " " + e.Message)}
	if c.peer.Auth.User != "" {
		args = append(args, "user", mail.Printable(c.peer.Auth.User))
	}
	if c.told == mostTold {
		args = append(args, "more", "not logged for this connection")
	}
	c.srv.log.Info("mail refused", args...)
}
