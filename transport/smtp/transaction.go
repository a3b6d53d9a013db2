package smtp

import (
	"errors"
	"fmt"
	"io"
	"time"

	"qstream/mail"
	"qstream/transport"
)

// transaction is MAIL to the reply after the final dot, for the recipients
// that have no outcome yet.
type transaction struct {
	d        *delivery
	s        *session
	unbind   func() bool
	mail     string              // command lines, without CRLF
	rcpt     []string            // beside to
	to       []int               // recipients of this transaction, by index
	accepted []int               // those of them that RCPT accepted
	later    map[int]mail.Status // those that were too many, and the reply
	first    bool                // MAIL is the first word on a reused connection
}

// run makes the transaction. A failure leaves recipients open for the next
// host; without one, each of them has an outcome or stands in later.
func (t *transaction) run() *failure {
	if !t.compose() {
		return nil
	}
	content, f := t.d.openContent()
	if f != nil {
		return f
	}
	defer content.Close()
	t.s.sent++
	// A transaction that was taken leaves nothing to reset (RFC 5321 4.1.1.4):
	// MAIL itself shows then whether a reused connection still lives.
	t.first = t.s.kept && t.s.clean
	t.s.clean = false
	defer func() { t.s.until = time.Time{} }()
	t.s.until = time.Now().Add(t.s.t.Envelope)
	ready, f := t.envelope(t.s.kept && !t.first)
	if f != nil || !ready {
		return f
	}
	t.s.until = time.Now().Add(t.contentTime())
	return t.content(content)
}

// contentTime is how long a peer may take over the content as a whole: one
// that takes a few bytes before each time limit would hold us for days.
func (t *transaction) contentTime() time.Duration {
	size := t.d.a.Size + int64(len(t.d.a.Prepend))
	return t.s.t.Block + time.Duration(size/t.d.c.cfg.MinRate)*time.Second
}

// errContent is content that can't be read: our side's trouble.
var errContent = mail.Status{Code: 451, Enhanced: "4.3.0", Text: "content could not be read"}

// openContent opens the content before the dialogue begins: a peer should not
// wait for it with DATA under way.
func (d *delivery) openContent() (io.ReadCloser, *failure) {
	content, err := d.a.Content(d.early)
	if err != nil {
		return nil, &failure{at: transport.AtContent, status: errContent, final: true, err: err}
	}
	return content, nil
}

// envelope gets the peer to accept the envelope and to wait for content;
// ready is false if it wants none.
func (t *transaction) envelope(again bool) (ready bool, f *failure) {
	if t.s.offers("PIPELINING") {
		return t.pipelined(again)
	}
	if again {
		if err := t.s.say([]byte("RSET\r\n")); err != nil {
			return false, stale(err)
		}
		if f := t.reset(); f != nil {
			return false, f
		}
	}
	return t.lockstep()
}

// pipelined sends all commands at once (RFC 2920) and reads their replies.
func (t *transaction) pipelined(again bool) (ready bool, f *failure) {
	var lines []byte
	if again {
		lines = append(lines, "RSET\r\n"...)
	}
	lines = append(lines, t.mail+"\r\n"...)
	for _, rcpt := range t.rcpt {
		lines = append(lines, rcpt+"\r\n"...)
	}
	lines = append(lines, "DATA\r\n"...)
	// A peer that refuses early may close while we write: its replies so far
	// still count, so a failed write shows when reading.
	werr := t.s.say(lines)
	if again {
		if f := t.reset(); f != nil {
			return false, f
		}
	}
	refusal, f := t.readMail(werr)
	if f != nil {
		return false, f
	}
	if refusal != nil {
		t.refuseAll(*refusal)
		t.drain(len(t.to))
	}
	for _, i := range t.d.only(t.to) {
		if f := t.readRcpt(i); f != nil {
			return false, f
		}
	}
	return t.readData()
}

// drain skips replies to commands that went out with a refused MAIL.
func (t *transaction) drain(n int) {
	for ; n > 0 && !t.s.broken; n-- {
		_, _, _ = t.s.read(t.s.t.Command)
	}
}

// lockstep sends one command at a time.
func (t *transaction) lockstep() (ready bool, f *failure) {
	refusal, f := t.readMail(t.s.say([]byte(t.mail + "\r\n")))
	if f != nil {
		return false, f
	}
	if refusal != nil {
		t.refuseAll(*refusal)
		return false, nil
	}
	for n, i := range t.to {
		if err := t.s.say([]byte(t.rcpt[n] + "\r\n")); err != nil {
			return false, broken(transport.AtRcpt, err)
		}
		if f := t.readRcpt(i); f != nil {
			return false, f
		}
	}
	if len(t.accepted) == 0 {
		return false, nil
	}
	if err := t.s.say([]byte("DATA\r\n")); err != nil {
		return false, broken(transport.AtData, err)
	}
	return t.readData()
}

// reset reads the reply to RSET, which also shows whether a reused connection
// still lives.
func (t *transaction) reset() *failure {
	reply, _, err := t.s.read(t.s.t.Command)
	if err == nil && !reply.OK() {
		err = reply
	}
	if err != nil {
		return stale(err)
	}
	return nil
}

func stale(err error) *failure {
	f := broken(transport.AtMail, err)
	f.stale = true
	return f
}

// readCompletion reads a reply that can't be 3yz: one that is belongs to
// another command, and nobody knows any more which reply is whose.
func (s *session) readCompletion() (mail.Status, error) {
	reply, _, err := s.read(s.t.Command)
	if err == nil && reply.Code < 400 && !reply.OK() {
		s.broken = true
		err = fmt.Errorf("%w to this command: %s", errReply, reply.String())
	}
	return reply, err
}

// readMail reads the reply to MAIL; a refusal speaks for all recipients. A
// reused connection that turns out to be dead, or closing, or to wait for a
// RSET, is stale.
func (t *transaction) readMail(werr error) (refusal *mail.Status, f *failure) {
	refusal, f = t.mailReply(werr)
	switch {
	case !t.first:
	case f != nil:
		f.stale = !f.remote || f.status.Code == 421
	case refusal != nil && refusal.Code == 503:
		// It wants the reset that we left out: no word about the mail.
		return nil, stale(*refusal)
	}
	return refusal, f
}

func (t *transaction) mailReply(werr error) (refusal *mail.Status, f *failure) {
	if errors.Is(werr, errReply) {
		return nil, broken(transport.AtMail, werr)
	}
	reply, err := t.s.readCompletion()
	switch {
	case err != nil && werr != nil:
		return nil, broken(transport.AtMail, werr)
	case err != nil:
		return nil, broken(transport.AtMail, err)
	case reply.OK():
		return nil, nil
	case !reply.Permanent():
		// Another host may have room; nothing was said about a recipient.
		return nil, refused(transport.AtMail, reply)
	}
	return &reply, nil
}

// readRcpt reads the reply to one RCPT.
func (t *transaction) readRcpt(i int) *failure {
	reply, err := t.s.readCompletion()
	switch {
	case err != nil:
		return broken(transport.AtRcpt, err)
	case reply.Code == 421:
		return refused(transport.AtRcpt, reply)
	case reply.OK():
		t.accepted = append(t.accepted, i)
	case tooMany(reply):
		t.later[i] = reply
	default:
		t.d.settle(i, transport.Outcome{Status: reply, At: transport.AtRcpt})
	}
	return nil
}

// tooMany reports whether a reply says that a transaction has all the
// recipients it may have; 552 is old usage for it (RFC 5321 4.5.3.1.10).
func tooMany(s mail.Status) bool {
	return s.Code == 452 && (s.Enhanced == "" || s.Enhanced == "4.5.3") ||
		s.Code == 552 && (s.Enhanced == "" || s.Enhanced == "5.5.3")
}

// readData reads the reply to DATA. If nobody was accepted it means nothing,
// but for a peer that then waits for content (RFC 2920 3.1).
func (t *transaction) readData() (ready bool, f *failure) {
	wanted := len(t.accepted) > 0
	if !wanted && t.s.broken {
		return false, nil
	}
	reply, _, err := t.s.read(t.s.t.Data)
	switch {
	case !wanted && err != nil:
		return false, nil
	case err != nil:
		return false, broken(transport.AtData, err)
	case !wanted && reply.Code == 354:
		t.s.sayNothing()
		return false, nil
	case !wanted:
		return false, nil
	case reply.Code == 354:
		return true, nil
	case reply.Code == 421:
		return false, refused(transport.AtData, reply)
	case reply.OK():
		return false, broken(transport.AtData, fmt.Errorf("%w to DATA: %s", errReply, reply.String()))
	}
	t.d.settleAll(t.accepted, transport.Outcome{Status: reply, At: transport.AtData})
	return false, nil
}

// refuseAll settles every recipient of the transaction by the reply to MAIL.
func (t *transaction) refuseAll(s mail.Status) {
	t.d.settleAll(t.to, transport.Outcome{Status: s, At: transport.AtMail})
}

// sayNothing ends a DATA that a peer takes though it took no recipient;
// whatever it answers means nothing.
func (s *session) sayNothing() {
	if err := s.write([]byte(".\r\n"), s.t.Command); err != nil {
		s.broken = true
		return
	}
	_, _, _ = s.read(s.t.Command)
}
