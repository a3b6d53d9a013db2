package fold

// Account is whose recipients are counted together: one tenant's of one hour
// of birth (see Hour).
type Account struct {
	Tenant string
	Hour   int64
}

// Sums are an account's recipients. Accepted, Generated and Unopened say how
// they came to be; the ends how they ended, each recipient once.
type Sums struct {
	Accepted, Generated, Unopened          int64
	Delivered, Bounced, Expired, Discarded int64
	// Again counts ends beyond a recipient's first.
	Again int64
}

// Open is how many have not ended.
func (s Sums) Open() int64 {
	return s.Accepted + s.Generated + s.Unopened - s.Delivered - s.Bounced - s.Expired - s.Discarded
}

// add counts a recipient n times.
func (s *Sums) add(r *Recipient, n int64) {
	switch r.Opened {
	case Accepted:
		s.Accepted += n
	case Generated:
		s.Generated += n
	case Unopened:
		s.Unopened += n
	}
	switch r.State {
	case Delivered:
		s.Delivered += n
	case Bounced:
		s.Bounced += n
	case Expired:
		s.Expired += n
	case Discarded:
		s.Discarded += n
	}
	s.Again += n * int64(max(r.Ends-1, 0))
}

// account adds what has changed since the message was stored.
func (m *Message) account(to map[Account]*Sums) {
	hour := Hour(m.ID)
	at := func(tenant string) *Sums {
		a := Account{tenant, hour}
		s := to[a]
		if s == nil {
			s = &Sums{}
			to[a] = s
		}
		return s
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		if !r.changed {
			continue
		}
		if r.before != nil {
			at(r.before.Tenant).add(r.before, -1)
		}
		at(r.Tenant).add(r, 1)
	}
}
