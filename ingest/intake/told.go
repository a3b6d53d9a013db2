package intake

import (
	"fmt"

	"github.com/emersion/go-smtp"

	"qstream/mail"
)

// mostTold is how many refusals of one session are logged: a client that
// tries every name of a dictionary shall not fill the disk. All are counted.
const mostTold = 20

// tell logs why mail was refused, for who is asked about it later: nothing
// else remembers mail that was never taken. Our own trouble is not told here
// (fault).
func (s *Session) tell(reason string, e *smtp.SMTPError) {
	if s.told == mostTold {
		return
	}
	s.told++
	reply := e.Message
	if e.EnhancedCode[0] > 0 {
		reply = fmt.Sprintf("%d.%d.%d %s", e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2], e.Message)
	}
	args := []any{"stage", "ingest", "host", s.record.ClientIp, "helo", mail.Printable(s.client.HELO), "from", mail.Printable(s.from),
		"rcpt", mail.Printable(s.to), "reason", reason, "code", e.Code, "reply", mail.Printable(reply)}
	if g := s.client.Gate; g != nil {
		args = append(args, "service", g.Service)
	}
	if s.client.User != "" {
		args = append(args, "user", mail.Printable(s.client.User))
	}
	if s.told == mostTold {
		args = append(args, "more", "not logged for this session")
	}
	s.in.deps.Log.Info("mail refused", args...)
}
