package office

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"qstream/mail"
	pb "qstream/schemas/qstream/v1"
	"qstream/tapper/vault/docket"
	"qstream/tapper/vault/order"
	"qstream/tapper/vault/sealed"
)

// activeWithin is how long an officer waits for a tapper that doesn't write yet.
const activeWithin = 10 * time.Second

// mostActs bounds an answer about the audit.
const mostActs = 100_000

// serve does what an officer asks for, and tells the audit first.
func (s *Server) serve(ctx context.Context, r request, client string) (any, error) {
	if r.Verb == VerbHello {
		b := s.cfg.Docket.Book()
		return Hello{Vault: b.Vault(), Office: s.admit.office, Changes: b.Changes(), Now: s.cfg.Now().UTC()}, nil
	}
	if err := s.active(ctx); err != nil {
		return nil, err
	}
	act := &pb.TapAct{Officer: r.Officer, Client: client}
	switch r.Verb {
	case VerbOrders:
		return s.orders(ctx, r, act)
	case VerbOrder, VerbGaps:
		return s.order(ctx, r, act)
	case VerbOfficers:
		return s.officers(ctx, act)
	case VerbSay:
		return s.say(ctx, r, act)
	case VerbAudit:
		return s.audit(ctx, r, act)
	case VerbKeys, VerbRotate:
		return s.keys(ctx, r, act)
	}
	return nil, fmt.Errorf("%w: no such verb", ErrInvalid)
}

// active waits for a process that has just started until it writes; one that
// stands by says so.
func (s *Server) active(ctx context.Context) error {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for end := time.Now().Add(activeWithin); !s.cfg.Active(); {
		select {
		case <-ctx.Done():
			return ErrStandby
		case <-t.C:
		}
		if time.Now().After(end) {
			return ErrStandby
		}
	}
	return nil
}

// note tells the audit, with why it is refused.
func (s *Server) note(ctx context.Context, act *pb.TapAct, refused error) error {
	if act.Refused = ""; refused != nil {
		act.Refused = refused.Error()
	}
	if err := s.cfg.Docket.Note(ctx, act); err != nil {
		return fmt.Errorf("%w: the audit can't be written, and without it nothing is shown or done; do the brokers answer the tapper? %w", ErrRefused, err)
	}
	return refused
}

func args(r request, v any) error {
	if err := json.Unmarshal(r.Args, v); err != nil {
		return fmt.Errorf("%w: arguments can't be read: %w", ErrInvalid, err)
	}
	return nil
}

func (s *Server) orders(ctx context.Context, r request, act *pb.TapAct) (any, error) {
	var a OrdersArgs
	act.Action = "list orders"
	if err := args(r, &a); err != nil {
		return nil, s.note(ctx, act, err)
	}
	if a.Ended {
		act.Detail = "ended ones, too"
	}
	if err := s.note(ctx, act, nil); err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	found := []Order{}
	for _, t := range s.cfg.Docket.Book().Taps() {
		if a.Ended || now.Before(t.Ends()) {
			found = append(found, Order{t, t.State(now)})
		}
	}
	return found, nil
}

func (s *Server) order(ctx context.Context, r request, act *pb.TapAct) (any, error) {
	var a IDArgs
	act.Action = "show order"
	if r.Verb == VerbGaps {
		act.Action = "look for gaps"
	}
	err := args(r, &a)
	act.Subject = a.ID
	t := s.cfg.Docket.Book().Tap(a.ID)
	switch {
	case err != nil:
	case t == nil:
		err = fmt.Errorf("%w: no order of the id %s", ErrNone, mail.Printable(a.ID))
	case r.Verb == VerbGaps && s.cfg.Gaps == nil:
		err = fmt.Errorf("%w: this tapper keeps no copies", ErrInvalid)
	}
	if err := s.note(ctx, act, err); err != nil {
		return nil, err
	}
	if r.Verb == VerbGaps {
		return s.cfg.Gaps(ctx, a.ID)
	}
	return Order{t, t.State(s.cfg.Now())}, nil
}

func (s *Server) officers(ctx context.Context, act *pb.TapAct) (any, error) {
	act.Action = "list officers"
	if err := s.note(ctx, act, nil); err != nil {
		return nil, err
	}
	b := s.cfg.Docket.Book()
	return OfficersAnswer{Officers: b.Officers().List(), Proposals: b.Proposals()}, nil
}

// say takes a statement, of the officer who brings it and of no other.
func (s *Server) say(ctx context.Context, r request, act *pb.TapAct) (any, error) {
	var signed order.Signed
	var st order.Statement
	act.Action = "say"
	err := args(r, &signed)
	if err == nil && json.Unmarshal(signed.Statement, &st) != nil {
		err = fmt.Errorf("%w: the statement can't be read", ErrInvalid)
	}
	if err != nil {
		return nil, s.note(ctx, act, err)
	}
	act.Action, act.Subject, act.Detail = st.Verb+" "+st.Subject, st.ID, "hash "+st.Hash
	if st.Officer != r.Officer {
		err = fmt.Errorf("%w: it is a statement of another officer", ErrRefused)
	} else {
		err = s.cfg.Docket.Try(signed)
	}
	if err := s.note(ctx, act, err); err != nil {
		return nil, err
	}
	if err := s.cfg.Docket.Say(ctx, signed); err != nil {
		return nil, s.note(ctx, act, err) // somebody was faster
	}
	return SayAnswer{ID: st.ID, State: s.state(st)}, nil
}

// state is what the subject of a statement is now.
func (s *Server) state(st order.Statement) string {
	b := s.cfg.Docket.Book()
	if t := b.Tap(st.ID); t != nil {
		return t.State(s.cfg.Now())
	}
	if p := b.Proposal(st.ID); p != nil && (p.Approved.Made() || p.Revoked.Made()) {
		return "settled"
	}
	return order.Requested
}

func (s *Server) audit(ctx context.Context, r request, act *pb.TapAct) (any, error) {
	var a AuditArgs
	act.Action = "read audit"
	err := args(r, &a)
	if err == nil && !a.Since.IsZero() {
		act.Detail = "since " + a.Since.UTC().Format(time.RFC3339)
	}
	if err := s.note(ctx, act, err); err != nil {
		return nil, err
	}
	acts := []Act{}
	err = s.cfg.Docket.Acts(ctx, a.Since, a.Until, func(act docket.Act) error {
		if len(acts) >= mostActs {
			return fmt.Errorf("%w: more than %d acts; name a shorter time", ErrInvalid, mostActs)
		}
		acts = append(acts, actOf(act.TapAct, act.Place.Number))
		return nil
	})
	return acts, err
}

// keys lists the numbers of the vault's keys; rotate makes another before that.
func (s *Server) keys(ctx context.Context, r request, act *pb.TapAct) (any, error) {
	act.Action = "list keys"
	if r.Verb == VerbRotate {
		act.Action = "make a new key"
	}
	if err := s.note(ctx, act, nil); err != nil {
		return nil, err
	}
	if r.Verb == VerbRotate {
		if _, err := sealed.AddKey(s.cfg.Folder.Dir); err != nil {
			return nil, err
		}
	}
	keys, err := sealed.ReadKeys(s.cfg.Folder.Dir)
	if err != nil {
		return nil, err
	}
	return keys.Numbers(), nil
}
