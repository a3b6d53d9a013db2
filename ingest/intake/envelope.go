package intake

import (
	"errors"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-smtp"

	"qstream/directory"
	"qstream/ingest/gate"
	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
)

// Mail starts a transaction: the reverse-path in string form, empty for the
// null path.
func (s *Session) Mail(from string, opts *smtp.MailOptions) error {
	s.tx = nil
	s.from = from
	if opts == nil {
		opts = &smtp.MailOptions{}
	}
	snap := s.in.deps.Snapshot()
	if snap == nil {
		return s.fault("read directory", errors.New("no snapshot yet"))
	}
	a, err := mail.ParseAddress(from, opts.UTF8)
	if err != nil {
		return s.refused("reverse-path", badAddress(from, "5.1.7", err))
	}
	user, err := s.submitter(snap)
	if err != nil {
		return err
	}
	recipients, size := s.limits(user)
	if opts.Size > size {
		return s.refused("size", tooBig(size))
	}
	if user != nil && !snap.MaySend(user, a.String()) {
		return s.refused("sender", refuse(553, "5.7.1", "%s may not send as %s", user.User, a.String()))
	}
	if user != nil {
		s.record.Relay, s.record.Tenant = true, user.Tenant
	} else if t := snap.ByNetwork(s.client.Addr.Addr()); t != nil {
		s.record.Relay, s.record.Tenant = true, t.Name
	} else {
		_, relay := s.client.Gate.Var(gate.RelayClient)
		s.record.Relay, s.record.Tenant = relay || s.client.Proven, ""
	}
	s.number++
	s.tx = &transaction{snap: snap, maxRecipients: recipients, maxSize: size, judgement: judgement{size: opts.Size}, envelope: &pb.Envelope{
		ReversePath: a.String(),
		EnvId:       text(opts.EnvelopeID),
		Ret:         rets[opts.Return],
		Body:        bodies[opts.Body],
		Smtputf8:    opts.UTF8,
	}}
	if err := s.quotaMail(user); err != nil {
		s.tx = nil
		return err
	}
	return nil
}

var rets = map[smtp.DSNReturn]pb.Ret{
	smtp.DSNReturnFull:    pb.Ret_RET_FULL,
	smtp.DSNReturnHeaders: pb.Ret_RET_HDRS,
}

var bodies = map[smtp.BodyType]pb.Body{
	smtp.Body7Bit:       pb.Body_BODY_7BIT,
	smtp.Body8BitMIME:   pb.Body_BODY_8BITMIME,
	smtp.BodyBinaryMIME: pb.Body_BODY_BINARYMIME,
}

var notifies = map[smtp.DSNNotify]pb.Notify{
	smtp.DSNNotifyNever:   pb.Notify_NOTIFY_NEVER,
	smtp.DSNNotifySuccess: pb.Notify_NOTIFY_SUCCESS,
	smtp.DSNNotifyFailure: pb.Notify_NOTIFY_FAILURE,
	smtp.DSNNotifyDelayed: pb.Notify_NOTIFY_DELAY,
}

// Rcpt adds a recipient. One that is already there is taken again and kept
// once.
func (s *Session) Rcpt(to string, opts *smtp.RcptOptions) error {
	s.to = to
	defer func() { s.to = "" }()
	if s.tx == nil {
		return refuse(503, "5.5.1", "no transaction")
	}
	e := s.tx.envelope
	a, err := mail.ParseAddress(to, e.Smtputf8)
	if err != nil || a.IsNull() {
		return s.refused("recipient", badAddress(to, "5.1.3", err))
	}
	if refusal := s.listed(); refusal != nil {
		return refusal
	}
	if len(e.Recipients) >= s.tx.maxRecipients || s.enough() {
		return s.refused("recipients", refuse(452, "4.5.3", "too many recipients"))
	}
	if a, err = s.appended(a); err != nil {
		return s.refused("recipient", badAddress(to, "5.1.3", err))
	}
	address, queue, err := s.admit(a)
	if err != nil {
		return err
	}
	if s.tx.has(address) {
		return nil
	}
	hold, err := s.quotaRcpt(address)
	if err != nil {
		return err
	}
	if err := s.verifyRecipient(address); err != nil {
		return err
	}
	s.tx.note(address)
	s.admittedQuota()
	r := &pb.Recipient{Number: uint32(len(e.Recipients)), Address: address, Held: hold || s.tx.accounts.hold}
	if opts != nil {
		for _, n := range opts.Notify {
			r.Notify = append(r.Notify, notifies[n])
		}
		if opts.OriginalRecipient != "" {
			r.Orcpt = text(strings.ToLower(string(opts.OriginalRecipientType)) + ";" + opts.OriginalRecipient)
		}
	}
	s.tx.add(r, queue)
	s.admitted(a.Domain)
	s.taken++
	return nil
}

// admit decides whether this client may send to a recipient, and returns the
// recipient's address as it goes on, and its queue.
func (s *Session) admit(a mail.Address) (address string, q *directory.Queue, err error) {
	snap := s.tx.snap
	address = a.String()
	site := a.Domain == "" // <Postmaster>, RFC 5321 4.5.1
	if site {
		address = snap.Site().Postmaster
		if address == "" {
			address = a.Local + "@" + s.in.cfg.Hostname
		}
	}
	if !site {
		if err := s.judge(a, address, snap.Owner(a.Domain) != nil); err != nil {
			return "", nil, err
		}
	}
	d := snap.Decide(directory.Question{
		Recipient:  address,
		NullSender: s.tx.envelope.ReversePath == "",
		Tenant:     s.record.Tenant,
	})
	if d.Refusal != nil && d.Refusal.Permanent() {
		return "", nil, s.refused("unroutable", refuse(d.Refusal.Code, d.Refusal.Enhanced, "%s", d.Refusal.Text))
	}
	return address, d.Queue, nil
}

func badAddress(address, enhanced string, err error) *smtp.SMTPError {
	switch {
	case !utf8.ValidString(address):
		return refuse(501, "5.6.7", "address is not UTF-8")
	case errors.Is(err, mail.ErrNotASCII):
		return refuse(553, "5.6.7", "address needs SMTPUTF8")
	}
	return refuse(501, enhanced, "malformed address")
}

func tooBig(limit int64) *smtp.SMTPError {
	return refuse(552, "5.3.4", "message exceeds %d octets", limit)
}

// text makes outside text fit for a record, which takes only UTF-8.
func text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// transaction is what was said from MAIL on.
type transaction struct {
	snap      *directory.Snapshot
	envelope  *pb.Envelope
	judgement judgement
	seen      map[string]bool
	class     string // of the queues' content, if they agree
	verified  verified
	accounts  accounts // of quotas

	maxRecipients int
	maxSize       int64
}

// has reports a recipient that is there already.
func (t *transaction) has(address string) bool { return t.seen[recipientKey(address)] }

// note makes a recipient one that is there.
func (t *transaction) note(address string) {
	if t.seen == nil {
		t.seen = map[string]bool{}
	}
	t.seen[recipientKey(address)] = true
}

func recipientKey(address string) string {
	i := strings.LastIndexByte(address, '@')
	return address[:i+1] + mail.NormalDomain(address[i+1:])
}
