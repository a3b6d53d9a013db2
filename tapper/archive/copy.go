package archive

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"qstream/bus"
	"qstream/directory"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// stageName is the part's name in logs.
const stageName = "archive"

// behind is how long a record waits for the directory that its writer saw
// before that is reported and the wait begun again.
const behind = 5 * time.Second

// step is a bus.Step from messages to copies; it keeps no state.
func (a *Archives) step(ctx context.Context, state []byte, r bus.Record) ([]bus.Record, []byte, error) {
	t, tenant, err := decode(r)
	if err != nil {
		a.metrics.poison.Inc()
		return nil, state, fmt.Errorf("%w: %s record: %w", bus.ErrPoison, r.Topic, err)
	}
	if t == nil {
		return nil, state, nil
	}
	if a.seen.Repeated(r, t.MessageId) {
		return nil, state, nil
	}
	s, err := a.snapshot(ctx, t.Directory)
	if err != nil {
		return nil, state, err
	}
	var out []bus.Record
	for _, c := range copies(s, t, tenant) {
		out = append(out, bus.NewTapped(c))
		a.metrics.copies.WithLabelValues(c.Archive).Inc()
	}
	return out, state, nil
}

// snapshot is the newest one, at least number: an archive that the edge already
// saw must not be missing here.
func (a *Archives) snapshot(ctx context.Context, number uint64) (*directory.Snapshot, error) {
	wait, stop := context.WithTimeout(ctx, behind)
	defer stop()
	for {
		changed := a.deps.Directory.Changed()
		if s := a.deps.Directory.Snapshot(); s.Number >= number {
			return s, nil
		}
		select {
		case <-changed:
		case <-wait.Done():
			return nil, fmt.Errorf("the directory is not yet at %d, with which the record was decided", number)
		}
	}
}

// decode makes of a record what all archives would be given, and says whose
// client handed it in. Nil: no archive is for it.
func decode(r bus.Record) (t *pb.Tapped, tenant string, err error) {
	value := schemas.WithoutInline(r.Topic, r.Value)
	if r.Topic == schemas.Reinject {
		var p pb.Reinject
		if err := proto.Unmarshal(value, &p); err != nil {
			return nil, "", err
		}
		if p.Origin != pb.Origin_ORIGIN_DSN {
			return nil, "", nil // a message that is known, or content that is
		}
		t = &pb.Tapped{
			MessageId: p.Id, Session: p.Session, Envelope: p.Envelope, Prepend: p.Prepend, HeaderMessageId: p.HeaderMessageId,
			Directory: p.Directory, Origin: p.Origin, ParentId: p.ParentId,
		}
		tenant = p.Tenant
		t.Content, err = reference(r, p.Id, p.Content)
	} else {
		var p pb.Received
		if err := proto.Unmarshal(value, &p); err != nil {
			return nil, "", err
		}
		t = &pb.Tapped{
			MessageId: p.Id, Session: p.Session, Envelope: p.Envelope, Prepend: p.Prepend, HeaderMessageId: p.HeaderMessageId,
			Directory: p.Directory, Checks: p.Checks,
		}
		tenant = p.Session.GetTenant()
		t.Content, err = reference(r, p.Id, p.Content)
	}
	if err != nil {
		return nil, "", err
	}
	if t.MessageId == "" || len(t.Envelope.GetRecipients()) == 0 {
		return nil, "", errors.New("no message id, or no recipients")
	}
	t.AcceptedMs = r.Time.UnixMilli()
	return t, tenant, nil
}

func reference(r bus.Record, id string, c *pb.Content) (*pb.ContentRef, error) {
	if c.GetWhere() == nil {
		return nil, errors.New("no content")
	}
	return r.Reference(id, c), nil
}

// copies are what each archive of a snapshot is given of a message.
func copies(s *directory.Snapshot, t *pb.Tapped, tenant string) []*pb.Tapped {
	addresses := make([]string, len(t.Envelope.Recipients))
	for i, r := range t.Envelope.Recipients {
		addresses[i] = r.Address
	}
	party := directory.Party{Tenant: tenant, ReversePath: t.Envelope.ReversePath}
	var all []*pb.Tapped
	for _, a := range s.Archives() {
		if t.Origin == pb.Origin_ORIGIN_DSN && !a.Reports {
			continue
		}
		meant := s.Recipients(a, party, addresses)
		if len(meant) == 0 {
			continue
		}
		// The envelope is made anew: it names nobody else, whatever is added to
		// it one day.
		e := &pb.Envelope{
			ReversePath: t.Envelope.ReversePath, EnvId: t.Envelope.EnvId, Ret: t.Envelope.Ret,
			Body: t.Envelope.Body, Smtputf8: t.Envelope.Smtputf8,
		}
		for _, i := range meant {
			e.Recipients = append(e.Recipients, t.Envelope.Recipients[i])
		}
		all = append(all, &pb.Tapped{
			Archive: a.Name, MessageId: t.MessageId, Full: !a.Envelope, Session: session(t.Session, a), Envelope: e,
			Content: t.Content, Prepend: slices.Clone(t.Prepend), HeaderMessageId: t.HeaderMessageId, AcceptedMs: t.AcceptedMs,
			Directory: t.Directory, Decided: s.Number, Checks: t.Checks, Origin: t.Origin, ParentId: t.ParentId,
		})
	}
	return all
}

// session is what an archive is told of who handed a message in: a tenant's
// isn't told by which user of which other tenant.
func session(s *pb.Session, a *directory.Archive) *pb.Session {
	if s == nil || a.Tenant == "" || s.Tenant == "" || s.Tenant == a.Tenant {
		return s
	}
	v := proto.CloneOf(s)
	v.AuthUser, v.Tenant, v.Relay = "", "", false
	return v
}
