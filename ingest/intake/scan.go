package intake

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"qstream/directory"
	"qstream/directory/roster"
	"qstream/ingest/scan"
	"qstream/mail"
	"qstream/qmail"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// Scanner is what sessions need of a scan.Scanner.
type Scanner interface {
	Ask(ctx context.Context, q scan.Question) (scan.Answer, error)
}

// scan asks engines about content that has come in to its end, if the rule of
// the connection wants it. What it returns goes with the message; an error is
// what the client is told.
func (s *Session) scan(m *message, prepend []byte) (*pb.Scan, error) {
	wanted := s.wantedScan()
	if wanted.Policy == "" {
		return nil, nil
	}
	if s.in.deps.Scan == nil {
		return schemas.Owed(wanted.Policy, nil), nil
	}
	if err := m.commit(s.ctx); err != nil {
		return nil, s.explain(err)
	}
	e := s.tx.envelope
	q := scan.Question{
		Snapshot: s.tx.snap, Scan: wanted, Lane: s.client.share(), Prepend: prepend, Size: m.size, Open: m.open, Gone: s.client.Gone,
		Facts: roster.Facts(m.id, s.record, e.ReversePath, e.Recipients, m.size+int64(len(prepend))),
	}
	if s.record.Tenant != "" {
		q.Lane = "tenant " + s.record.Tenant
	}
	for _, r := range e.Recipients {
		q.Domains = append(q.Domains, mail.Domain(r.Address))
	}
	a, err := s.in.deps.Scan.Ask(s.ctx, q)
	switch {
	case errors.Is(err, scan.ErrGone): // it may still listen, or come again
		return nil, s.refused("gone", refuse(421, "4.4.2", "connection closed before the reply"))
	case err != nil:
		return nil, s.fault("scan mail", err)
	case a.Fate() == scan.Accept, a.Fate() == scan.Leave:
		return a.Scan, nil
	case a.Fate() == scan.Refuse:
		return nil, s.refused("scan", answer(a.Reply()))
	}
	return nil, s.refused("scan_later", answer(a.Reply()))
}

// wantedScan is how the session's mail is scanned, by the rule that was found for
// it. A program of this host passes no gate: its is the one that HTTP has for its
// address.
func (s *Session) wantedScan() directory.SessionScan {
	if g := s.client.Gate; g != nil {
		return s.tx.snap.SessionScan(g.Service, g.Rule)
	}
	if s.client.Protocol != pb.Protocol_PROTOCOL_HTTP {
		return directory.SessionScan{}
	}
	rule, _ := s.tx.snap.ConnRules(directory.ServiceHTTP).Rules.Find(qmail.Client{IP: s.client.Addr.Addr()})
	return s.tx.snap.SessionScan(directory.ServiceHTTP, rule)
}

// open reads content that has come in; large content must be committed.
func (m *message) open(ctx context.Context) (io.ReadCloser, error) {
	if m.stored == nil {
		return io.NopCloser(bytes.NewReader(m.small.Bytes())), nil
	}
	return m.in.deps.Bus.Open(ctx, m.stored.GetRef())
}

// commit stores large content to its end, ahead of the record, and gives its
// place back: what takes long from here on needs no memory. A broker that
// doesn't take it within Config.Timeout ends it.
func (m *message) commit(ctx context.Context) error {
	if m.blob == nil {
		return nil
	}
	giveUp := m.cancel // of the blob
	watchdog := time.AfterFunc(m.in.cfg.Timeout, giveUp)
	defer watchdog.Stop()
	defer context.AfterFunc(ctx, giveUp)()
	blob := m.blob
	m.blob = nil // committed or broken, it isn't to be aborted
	var err error
	m.stored, err = blob.Commit()
	m.handOver()()
	return err
}
