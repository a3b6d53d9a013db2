package httpd

import (
	"errors"
	"io"
	"net/http"

	"github.com/emersion/go-smtp"

	"qstream/mail"
	"qstream/wire"
)

// submission is one message of a request.
type submission struct {
	from    string
	to      []recipient
	envID   string
	ret     smtp.DSNReturn
	content io.Reader // read once; lines end in LF or CRLF
	fault   *problem  // of this message alone; then there is nothing else
}

// recipient is one of an envelope.
type recipient struct {
	Address string
	Notify  []smtp.DSNNotify
	ORCPT   string
}

// addressTo makes addresses the recipients; one that comes again is kept once.
func (m *submission) addressTo(all []string) {
	seen := make(map[string]bool, len(all))
	for _, a := range all {
		if !seen[a] {
			seen[a] = true
			m.to = append(m.to, recipient{Address: a})
		}
	}
}

var (
	stored   = reply{250, "2.0.0", "ok"}
	accepted = reply{250, "2.1.5", "ok"}
)

// submit hands a message to the session. before is called when all of it has
// come in, and publishing it is all that is left.
func (x *exchange) submit(s Session, m submission, id string) (result, error) {
	if m.fault != nil {
		return result{Status: m.fault.Status, Reply: reply{554, "5.6.0", m.fault.Detail}}, nil
	}
	defer s.Reset()
	if err := s.Mail(m.from, &smtp.MailOptions{UTF8: m.needsUTF8(), EnvelopeID: m.envID, Return: m.ret}); err != nil {
		return x.refused(x.h.explain(err)), nil
	}
	r := x.address(s, m.to)
	if r.Status != 0 {
		return r, nil
	}
	s.UseID(id)
	text := wire.TextFrom(m.content, wire.Options{Policy: x.h.cfg.LineEnds, MaxLine: x.h.cfg.MaxLine})
	defer text.Close()
	b := &content{r: text, end: func() error { return x.once.begin(id) }}
	err := s.Data(b)
	var p *problem
	switch {
	case errors.Is(b.err, errPublished):
		return found(x.once.published[id], m.to), nil
	case errors.As(b.err, &p), lost(b.err):
		return r, b.err
	case err != nil:
		r.Reply = x.h.explain(err)
		r.Status = httpStatus(r.Reply.status())
		r.doubt = b.ended && !r.Reply.status().Permanent()
		r.Recipients = nil
		return r, nil
	case !b.ended:
		return r, errors.New("session left content unread")
	}
	r.ID, r.Status, r.Reply = id, http.StatusAccepted, stored
	return r, nil
}

func (x *exchange) refused(said reply) result {
	return result{Status: httpStatus(said.status()), Reply: said}
}

// address offers the recipients. A Status that isn't 0 says that none was
// taken: 503 or 429 if one might be later.
func (x *exchange) address(s Session, to []recipient) result {
	var r result
	taken := 0
	for _, one := range to {
		f := fate{one.Address, accepted}
		opts := &smtp.RcptOptions{Notify: one.Notify}
		if one.ORCPT != "" {
			opts.OriginalRecipientType, opts.OriginalRecipient = smtp.DSNAddressTypeRFC822, one.ORCPT
		}
		if err := s.Rcpt(one.Address, opts); err != nil {
			f.reply = x.h.explain(err)
			if r.Reply.Code == 0 || r.Reply.status().Permanent() && !f.status().Permanent() {
				r.Reply = f.reply
			}
		} else {
			taken++
		}
		r.Recipients = append(r.Recipients, f)
	}
	if taken == 0 {
		r.Status = httpStatus(r.Reply.status())
	}
	return r
}

// needsUTF8 reports an envelope that SMTPUTF8 is needed for.
func (m submission) needsUTF8() bool {
	if notASCII(m.from) {
		return true
	}
	for _, r := range m.to {
		if notASCII(r.Address) {
			return true
		}
	}
	return false
}

func notASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return true
		}
	}
	return false
}

// content is what the session reads. It keeps the error that ended it, so that
// a session that overlooks one does no harm.
type content struct {
	r     io.Reader
	end   func() error
	ended bool // and end said yes
	err   error
}

func (c *content) Read(p []byte) (int, error) {
	if c.err != nil {
		return 0, c.told()
	}
	n, err := c.r.Read(p)
	var stray *wire.StrayError
	switch {
	case isEOF(err):
		c.err = io.EOF
		if err := c.end(); err != nil {
			c.err = err
		} else {
			c.ended = true
		}
	case errors.As(err, &stray):
		c.err = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 5, 2}, Message: stray.Error() + " in message"}
	case errors.Is(err, wire.ErrLineTooLong):
		c.err = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 6, 0}, Message: "line too long in message"}
	default:
		c.err = err
	}
	return n, c.told()
}

// told is the error as the session is told it: what is none of its matters is
// a stream that broke.
func (c *content) told() error {
	if c.err == nil || isEOF(c.err) || errors.As(c.err, new(*smtp.SMTPError)) {
		return c.err
	}
	return io.ErrUnexpectedEOF
}

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// fresh is a new message id.
func (x *exchange) fresh() string { return mail.NewID(x.h.deps.Now()) }

// session makes the request's session.
func (x *exchange) session() (Session, error) {
	s, err := x.h.deps.Backend(x.who.ctx, x.who.peer)
	if err != nil {
		said := x.h.explain(err)
		return nil, &problem{Status: httpStatus(said.status()), Detail: said.Text, SMTP: &said}
	}
	return s, nil
}

// one submits the only message of a request.
func (x *exchange) one(m submission, fingerprint func() []byte) (answer, error) {
	s, err := x.session()
	if err != nil {
		return answer{}, err
	}
	id := x.once.name(1, fingerprint, x.fresh)[0]
	r, err := x.submit(s, m, id)
	if err != nil {
		return answer{}, err
	}
	a := answerTo(r)
	x.once.settle([]result{r}, a)
	return a, nil
}

// several submits the messages of a request one after the other. One that
// fails does not end it.
func (x *exchange) several(all []submission, fingerprint func() []byte) (answer, error) {
	s, err := x.session()
	if err != nil {
		return answer{}, err
	}
	ids := x.once.name(len(all), fingerprint, x.fresh)
	kept := x.once.kept()
	results := make([]result, len(all))
	for i, m := range all {
		if len(kept) == len(all) && kept[i].final() {
			results[i] = kept[i]
			continue
		}
		r, err := x.submit(s, m, ids[i])
		var p *problem
		if errors.As(err, &p) && (x.once == nil || x.once.stop == nil) {
			r, err = result{Status: p.Status, Reply: reply{451, "4.3.0", p.Detail}}, nil
		}
		if err != nil {
			return answer{}, err
		}
		results[i] = r
	}
	a := answerAll(results)
	x.once.settle(results, a)
	return a, nil
}
