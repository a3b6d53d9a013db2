package router

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// message is what a received and a reinject record have in common.
type message struct {
	id              string
	session         *pb.Session
	envelope        *pb.Envelope
	content         *pb.ContentRef
	prepend         []byte
	headerMessageID string
	directory       uint64 // number of the snapshot that the writer saw
	tenant          string // whose mail it is, for domains that nobody owns
	bornMs          int64
	stoppedMs       int64
	nextLeg         uint32

	origin    pb.Origin
	parentID  string
	parentLeg uint32
	reroutes  uint32
	attempt   uint32
	last      *pb.Status
	notified  bool // of the delay
	owed      bool // an attempt after its lifetime
	scan      *pb.Scan
	rescanned uint64 // by this order it was scanned again
	verified  bool   // the reverse-path is who it says
	byRoute   string // name of the route that somebody chose
}

// decode reads a record of either topic. Its errors wrap bus.ErrPoison: what
// can't be read now never can.
func decode(r bus.Record) (*message, error) {
	m, err := decodeTopic(r)
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s record: %w", bus.ErrPoison, r.Topic, err)
	}
	return m, nil
}

func decodeTopic(r bus.Record) (*message, error) {
	if r.Topic == schemas.Reinject {
		return decodeReinject(r)
	}
	return decodeReceived(r)
}

func decodeReceived(r bus.Record) (*message, error) {
	var p pb.Received
	if err := proto.Unmarshal(schemas.WithoutInline(r.Topic, r.Value), &p); err != nil {
		return nil, err
	}
	ref, err := reference(r, p.Id, p.Content)
	return &message{
		id: p.Id, session: p.Session, envelope: p.Envelope, content: ref, prepend: p.Prepend,
		headerMessageID: p.HeaderMessageId, directory: p.Directory, tenant: p.Session.GetTenant(),
		bornMs: r.Time.UnixMilli(), verified: directory.Verified(p.Envelope, p.Checks), scan: p.Scan,
	}, err
}

func decodeReinject(r bus.Record) (*message, error) {
	var p pb.Reinject
	if err := proto.Unmarshal(schemas.WithoutInline(r.Topic, r.Value), &p); err != nil {
		return nil, err
	}
	if p.Origin == pb.Origin_ORIGIN_UNSPECIFIED {
		return nil, errors.New("no origin")
	}
	ref, err := reference(r, p.Id, p.Content)
	m := &message{
		id: p.Id, session: p.Session, envelope: p.Envelope, content: ref, prepend: p.Prepend,
		headerMessageID: p.HeaderMessageId, directory: p.Directory, tenant: p.Tenant,
		bornMs: p.BornMs, stoppedMs: p.StoppedMs, nextLeg: p.NextLeg,
		origin: p.Origin, parentID: p.ParentId, parentLeg: p.ParentLeg,
		reroutes: p.Reroutes, attempt: p.Attempt, last: p.Last,
		notified: p.DelayNotified, owed: p.Owed, scan: p.Scan, verified: p.Verified, rescanned: p.Rescanned, byRoute: p.ByRoute,
	}
	if m.bornMs == 0 {
		m.bornMs = r.Time.UnixMilli()
	}
	return m, err
}

// reference is the content as legs carry it, which has a place.
func reference(r bus.Record, id string, c *pb.Content) (*pb.ContentRef, error) {
	if c.GetWhere() == nil {
		return nil, errors.New("no content")
	}
	ref := r.Reference(id, c)
	if ref.GetTopic() == "" || len(ref.Offsets) == 0 {
		return nil, errors.New("content reference without a place")
	}
	return ref, nil
}

// check refuses what no honest writer makes.
func (m *message) check() error {
	if m.id == "" {
		return errors.New("no message id")
	}
	if len(m.envelope.GetRecipients()) == 0 {
		return errors.New("no recipients")
	}
	seen := make(map[uint32]bool, len(m.envelope.Recipients))
	for _, r := range m.envelope.Recipients {
		if seen[r.Number] || r.Number >= schemas.RerouteSpan {
			return fmt.Errorf("recipient number %d is repeated or too large", r.Number)
		}
		seen[r.Number] = true
	}
	return nil
}

// identity is the same for two records only if one repeats the other.
func (m *message) identity() string {
	if m.origin == pb.Origin_ORIGIN_UNSPECIFIED {
		return m.id
	}
	// A leg may be rerouted in parts, one after the other.
	least := m.envelope.Recipients[0].Number
	for _, r := range m.envelope.Recipients {
		least = min(least, r.Number)
	}
	return fmt.Sprintf("%s %d %s %d %d %d %d", m.id, m.origin, m.parentID, m.parentLeg, m.reroutes, m.nextLeg, least)
}
