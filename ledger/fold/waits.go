package fold

import (
	"slices"

	pb "qstream/schemas/qstream/v1"
)

// OnTheirWay are the places of legs that nobody holds back: what waits there
// waits for us, or for its clock.
var OnTheirWay = []Place{Reinject, Queue, Delay, Scan}

// Owner is whose waiting mail is counted together: a tenant's, and, with a
// user, what the user handed in.
type Owner struct{ Tenant, User string }

// Wait is mail that waits, of legs with a reverse-path: reports count for no
// quota.
type Wait struct {
	Legs       int64
	Recipients int64
	Bytes      int64
}

// Waits are changes of what waits: by owner, and by the second of birth, how
// many legs no attempt was made for though nothing but us keeps them waiting.
type Waits map[Owner]*Waiting

// Waiting is what waits of one owner.
type Waiting struct {
	Wait
	Fresh map[int64]int64 // seconds since 1970
}

// Add adds legs n times: once more, or less, for each.
func (w Waits) Add(o Owner, sum Wait, fresh bool, born, n int64) {
	s := w[o]
	if s == nil {
		s = &Waiting{Fresh: map[int64]int64{}}
		w[o] = s
	}
	s.Legs += n * sum.Legs
	s.Recipients += n * sum.Recipients
	s.Bytes += n * sum.Bytes
	if !fresh {
		return
	}
	if s.Fresh[born] += n * sum.Legs; s.Fresh[born] == 0 {
		delete(s.Fresh, born)
	}
}

// Join adds changes, and forgets owners of whom nothing waits any more.
func (w Waits) Join(changes Waits) {
	for o, c := range changes {
		w.Add(o, c.Wait, false, 0, 1)
		for born, n := range c.Fresh {
			w.Add(o, Wait{Legs: n}, true, born, 1)
			w[o].Legs -= n
		}
		if s := w[o]; s.Wait == (Wait{}) && len(s.Fresh) == 0 {
			delete(w, o)
		}
	}
}

// Oldest is the second of birth of the oldest leg without an attempt; ok is
// false if there is none.
func (w *Waiting) Oldest() (born int64, ok bool) {
	for b := range w.Fresh {
		if !ok || b < born {
			born, ok = b, true
		}
	}
	return born, ok
}

// counted is what a leg counts for.
type counted struct {
	Owner
	Wait
	fresh bool
	born  int64
}

// counts is what a leg counts for, as it is.
func (l *Leg) counts(bornMs int64) counted {
	if l.Number < 0 || l.Recipients == 0 || l.Report || l.Tenant == "" {
		return counted{}
	}
	return counted{
		Owner: Owner{l.Tenant, l.User}, Wait: Wait{1, int64(l.Recipients), l.Size}, born: bornMs / 1000,
		fresh: l.Attempt == 0 && slices.Contains(OnTheirWay, l.Place) && l.Reason != pb.Reason_REASON_BREAKER,
	}
}

func (c counted) add(to Waits, n int64) {
	if c.Wait == (Wait{}) {
		return
	}
	to.Add(Owner{Tenant: c.Tenant}, c.Wait, c.fresh, c.born, n)
	if c.User != "" {
		to.Add(c.Owner, c.Wait, c.fresh, c.born, n)
	}
}

// wait adds what has changed since the message was stored.
func (m *Message) wait(to Waits) {
	for i := range m.Legs {
		l := &m.Legs[i]
		if now := l.counts(m.BornMs); now != l.was {
			l.was.add(to, -1)
			now.add(to, 1)
		}
	}
}
