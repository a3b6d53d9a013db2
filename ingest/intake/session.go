package intake

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/emersion/go-smtp"
	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/directory"
	"qstream/ingest/policy"
	"qstream/ingest/verify"
	"qstream/mail"
	"qstream/qmail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Session is a client's session; it implements smtp.Session. It is not safe
// for concurrent use. Errors that are for the client are *smtp.SMTPError.
type Session struct {
	in      *Intake
	ctx     context.Context
	client  Client
	record  *pb.Session
	tx      *transaction // nil between transactions
	ahead   *message     // content that came before its envelope
	id      string       // of the message that was taken last
	next    string       // id of the next one; empty: a new one
	taken   int64        // recipients of all transactions
	conduct conduct
	number  int // of the transaction

	from, to string // of the command that is answered, as the client wrote them
	told     int    // refusals that were logged
}

var _ smtp.Session = (*Session)(nil)

// Accepted is the id of the message that Data took last.
func (s *Session) Accepted() string { return s.id }

// UseID names the message that is taken next: a submission that is repeated
// keeps its id.
func (s *Session) UseID(id string) { s.next = id }

// Reset forgets the transaction, and content that came ahead.
func (s *Session) Reset() {
	s.tx = nil
	if s.ahead != nil {
		s.ahead.close()
		s.ahead = nil
	}
}

// Logout ends the session.
func (s *Session) Logout() error {
	s.Reset()
	return nil
}

// Data stores the content that r gives, up to its io.EOF, and publishes the
// message. An error of r that is a *smtp.SMTPError is returned as it is.
func (s *Session) Data(r io.Reader) error {
	if !s.deliverable() {
		return refuse(503, "5.5.1", "no valid recipients")
	}
	if err := s.Refused(); err != nil {
		return err
	}
	defer s.Reset()
	if err := s.take(r, s.tx.class, s.tx.maxSize); err != nil {
		return err
	}
	return s.publish()
}

// Content stores content as Data does, for protocols in which it comes before
// its envelope: then Mail, Rcpt and Publish, or Reset. It is kept in the
// default class, since nobody knows yet whose it is.
func (s *Session) Content(r io.Reader) error {
	s.Reset()
	err := s.take(r, schemas.DefaultClass, s.limit())
	if err != nil {
		s.Reset()
	}
	return err
}

// Publish publishes the message of Content, Mail and Rcpt, as Data does.
func (s *Session) Publish() error {
	defer s.Reset()
	if !s.deliverable() || s.ahead == nil {
		return refuse(503, "5.5.1", "no valid recipients or no content")
	}
	if err := s.Refused(); err != nil {
		return err
	}
	if err := s.obeyed(); err != nil {
		return s.explain(err)
	}
	return s.publish()
}

func (s *Session) deliverable() bool { return s.tx != nil && len(s.tx.envelope.Recipients) > 0 }

// take reads content into s.ahead.
func (s *Session) take(r io.Reader, class string, limit int64) error {
	started := s.in.deps.Now()
	id := s.next
	if s.next = ""; id == "" {
		id = mail.NewID(started)
	}
	s.ahead = &message{in: s.in, client: s.client.share(), id: id, started: started, class: class, limit: limit, verify: s.listen()}
	if s.tx != nil { // else nobody knows yet whose policy holds
		s.ahead.policy, s.ahead.scan = s.tx.judgement.scanned()
	}
	if err := s.ahead.read(s.ctx, r); err != nil {
		return s.explain(err)
	}
	return nil
}

// publish publishes s.ahead with the envelope.
func (s *Session) publish() error {
	m := s.ahead
	found, err := s.conclude(m)
	if err != nil {
		return s.explain(err)
	}
	added, messageID := s.missing(&m.header, m.id, m.started)
	prepend := []byte(found.Lines(s.by()) + s.trace(m.id, m.started) + added)
	scanned, err := s.scan(m, prepend)
	if err != nil {
		return err
	}
	received := &pb.Received{
		Id: m.id, Envelope: s.tx.envelope,
		Session:         s.record,
		Prepend:         prepend,
		Scan:            scanned,
		Checks:          found.Checks(),
		Directory:       s.tx.snap.Number,
		AcceptedMs:      m.started.UnixMilli(),
		HeaderMessageId: messageID,
	}
	if err := m.publish(s.ctx, received); err != nil {
		return s.explain(err)
	}
	s.id = m.id
	s.in.metrics.accepted(len(received.Envelope.Recipients), m.size)
	s.count(m.size)
	s.in.deps.Log.Info("accepted", "msg_id", m.id, "stage", "ingest", "tenant", s.record.Tenant, "host", s.record.ClientIp)
	s.in.deps.Failpoint("ingest.reply.before")
	return nil
}

// explain turns an error into what the client is told.
func (s *Session) explain(err error) error {
	var reply *smtp.SMTPError
	var broken *readError
	switch {
	case errors.As(err, &reply):
		return s.refused("content", reply)
	case errors.As(err, &broken): // the client went away: nobody to tell
		return broken.error
	}
	return s.fault("store mail", err)
}

// Refuse counts and tells a refusal that is a front end's, and returns it.
func (s *Session) Refuse(reason string, reply *smtp.SMTPError) *smtp.SMTPError {
	_ = s.refused(reason, reply) // it is the reply
	return reply
}

func (s *Session) refused(reason string, reply *smtp.SMTPError) error {
	s.in.metrics.refused(reason)
	s.tell(reason, reply)
	return reply
}

func (s *Session) fault(doing string, err error) error {
	s.in.metrics.refused("fault")
	s.in.deps.Log.Warn("mail not taken", "stage", "ingest", "host", s.record.ClientIp, "err", fmt.Errorf("%s: %w", doing, err))
	return ourFault(err)
}

// trace is the Received line of a message.
func (s *Session) trace(id string, at time.Time) string {
	r := mail.Received{
		HELO: s.client.HELO, ClientName: s.client.Name, ClientIP: s.record.ClientIp,
		By: s.by(), Protocol: s.with(), ID: id, At: at,
	}
	if s.record.TlsVersion != "" {
		r.TLS = s.record.TlsVersion + " " + s.record.TlsCipher
	}
	if rs := s.tx.envelope.Recipients; len(rs) == 1 { // others must not learn of each other
		r.For = rs[0].Address
	}
	return r.String()
}

// snapshot is that of the transaction; before one, the newest, or nil.
func (s *Session) snapshot() *directory.Snapshot {
	if s.tx != nil {
		return s.tx.snap
	}
	return s.in.deps.Snapshot()
}

// by is our name in the Received line.
func (s *Session) by() string {
	if s.in.cfg.By != "" {
		return s.in.cfg.By
	}
	if snap := s.snapshot(); snap != nil && snap.Site().Me != "" {
		return snap.Site().Me
	}
	return s.in.cfg.Hostname
}

// with is the protocol as Received tells it (RFC 3848, RFC 6531 4.3).
func (s *Session) with() string {
	var name string
	switch s.client.Protocol {
	case pb.Protocol_PROTOCOL_LMTP:
		name = "LMTP"
	case pb.Protocol_PROTOCOL_QMQP:
		return "QMQP"
	case pb.Protocol_PROTOCOL_QMTP:
		return s.withQMTP()
	case pb.Protocol_PROTOCOL_HTTP:
		return "HTTP"
	default:
		name = "SMTP"
		if s.client.ESMTP && !s.tx.envelope.Smtputf8 {
			name = "ESMTP"
		}
	}
	if s.tx.envelope.Smtputf8 {
		name = "UTF8" + name
	}
	if s.client.TLS != nil {
		name += "S"
	}
	if s.client.User != "" {
		name += "A"
	}
	return name
}

// withQMTP has an S for TLS, and an A for a client that a certificate proved.
func (s *Session) withQMTP() string {
	switch {
	case s.client.Proven:
		return "QMTPSA"
	case s.client.TLS != nil:
		return "QMTPS"
	}
	return "QMTP"
}

func (t *transaction) add(r *pb.Recipient, q *directory.Queue) {
	class := schemas.DefaultClass
	if q != nil && q.ContentClass != "" {
		class = q.ContentClass
	}
	if len(t.envelope.Recipients) == 0 {
		t.class = class
	} else if t.class != class {
		t.class = schemas.DefaultClass
	}
	t.envelope.Recipients = append(t.envelope.Recipients, r)
}

// message is content on its way to the bus.
type message struct {
	in      *Intake
	id      string
	started time.Time
	class   string
	limit   int64 // octets of it
	header  mail.HeaderScan
	verify  *verify.Message // nil: who it is from isn't asked
	size    int64
	small   *bytes.Buffer // content up to bus.InlineLimit
	blob    *bus.Blob     // content above it
	stored  *pb.Content   // the same once it is committed ahead of the record; else nil
	cancel  context.CancelFunc
	client  string // whose place of in.large it takes
	release func() // gives the place back; nil: it has none
	policy  policy.Content
	scan    *qmail.ContentScan // nil: nothing is searched for
}

// smalls are buffers of content that may travel inline, with room for one
// octet more.
var smalls = sync.Pool{New: func() any { return bytes.NewBuffer(make([]byte, 0, bus.InlineLimit+2*bytes.MinRead)) }}

// readError is an error of the client's stream.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }

// read takes the content in: small content stays here, larger content is
// stored while it is read.
func (m *message) read(ctx context.Context, r io.Reader) error {
	m.small = smalls.Get().(*bytes.Buffer)
	m.small.Reset()
	if _, err := m.small.ReadFrom(io.LimitReader(r, bus.InlineLimit+1)); err != nil {
		return &readError{err}
	}
	if err := m.check(m.small.Bytes()); err != nil {
		return err
	}
	if m.small.Len() <= bus.InlineLimit {
		return nil
	}
	return m.readLarge(ctx, r)
}

// check looks at content as it comes by.
func (m *message) check(p []byte) error {
	m.size += int64(len(p))
	_, _ = m.header.Write(p)
	switch {
	case m.header.Received > m.in.cfg.MaxHops:
		return refuse(554, "5.4.6", "too many hops: mail loops")
	case m.size > m.limit:
		return tooBig(m.limit)
	}
	if m.verify != nil {
		_, _ = m.verify.Write(p) // it never fails
	}
	return m.obey(p)
}

// inline is small content as the record carries it. Its buffer goes back when
// the message is over: encode the record before.
func (m *message) inline() *pb.Content {
	body := m.small.Bytes()
	sum := sha256.Sum256(body)
	return &pb.Content{Where: &pb.Content_Inline{Inline: body}, Size: m.size, Sha256: sum[:]}
}

// publish stores the rest and the record. It returns within Config.Timeout,
// also if the bus does not.
func (m *message) publish(ctx context.Context, received *pb.Received) error {
	ctx, cancel := context.WithTimeout(ctx, m.in.cfg.Timeout)
	blob := m.blob
	m.blob = nil
	var record bus.Record
	switch {
	case m.stored != nil:
		received.Content = m.stored
		record = bus.NewReceived(received)
	case blob == nil:
		received.Content = m.inline()
		record = bus.NewReceived(received)
	default:
		// What publishes may outlive this transaction.
		received.Session = proto.Clone(received.Session).(*pb.Session)
	}
	defer cancel()
	if m.cancel != nil {
		defer context.AfterFunc(ctx, m.cancel)()
	}
	done := make(chan error, 1)
	release := m.handOver()
	m.in.pending.Go(func() {
		defer release()
		if blob != nil {
			var err error
			if received.Content, err = blob.Commit(); err != nil {
				done <- err
				return
			}
			record = bus.NewReceived(received)
		}
		done <- m.in.store(ctx, &record)
	})
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (in *Intake) store(ctx context.Context, record *bus.Record) error {
	started := time.Now()
	err := in.deps.Bus.Publish(ctx, record)
	in.metrics.stored(time.Since(started), err)
	return err
}
