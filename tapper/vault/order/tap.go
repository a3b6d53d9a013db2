package order

import "time"

// States of a tap.
const (
	Requested = "requested" // waits for another officer
	Lapsed    = "lapsed"    // waited too long
	Withdrawn = "withdrawn" // taken back before it was approved
	Pending   = "pending"   // approved, its time has not come
	InForce   = "in force"
	Expired   = "expired"
	Revoked   = "revoked"
)

// Decision is who said something, and when the vault took it.
type Decision struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

// Made is whether it was said.
func (d Decision) Made() bool { return d.By != "" }

// Tap is an order with what officers said about it. It never changes: what is
// said makes a new one.
type Tap struct {
	Order     Order    `json:"order"`
	Hash      string   `json:"hash"`
	Requested Decision `json:"requested"`
	Approved  Decision `json:"approved,omitzero"`
	Revoked   Decision `json:"revoked,omitzero"`
}

// State is what the tap is at a time.
func (t *Tap) State(now time.Time) string {
	switch {
	case t.Revoked.Made() && !t.Approved.Made():
		return Withdrawn
	case t.Revoked.Made():
		return Revoked
	case !t.Approved.Made() && (!now.Before(t.Order.Until) || now.Sub(t.Requested.At) > ApproveWithin):
		return Lapsed
	case !t.Approved.Made():
		return Requested
	case !now.Before(t.Order.Until):
		return Expired
	case now.Before(t.Order.From):
		return Pending
	}
	return InForce
}

// Covers is whether a message that was accepted at that time is the order's, as
// it arrives: between From and Until, after the approval, before a revocation.
func (t *Tap) Covers(accepted time.Time) bool {
	return t.within(accepted) && !accepted.Before(t.Approved.At)
}

// CoversPast is whether a message that was accepted before the approval is the
// order's, where the order reaches back. Covers and CoversPast never both hold.
func (t *Tap) CoversPast(accepted time.Time) bool {
	return t.Order.Retro && t.within(accepted) && accepted.Before(t.Approved.At)
}

func (t *Tap) within(accepted time.Time) bool {
	return t.Approved.Made() && !accepted.Before(t.Order.From) && accepted.Before(t.Order.Until) &&
		(!t.Revoked.Made() || accepted.Before(t.Revoked.At))
}

// Ends is when the tap covers nothing that comes any more; of one that was
// never approved when it lapses.
func (t *Tap) Ends() time.Time {
	end := t.Order.Until
	if lapse := t.Requested.At.Add(ApproveWithin); !t.Approved.Made() && lapse.Before(end) {
		end = lapse
	}
	if t.Revoked.Made() && t.Revoked.At.Before(end) {
		end = t.Revoked.At
	}
	return end
}

// Proposal is a change of the officers with what they said about it.
type Proposal struct {
	Change    Change   `json:"change"`
	Hash      string   `json:"hash"`
	Requested Decision `json:"requested"`
	Approved  Decision `json:"approved,omitzero"`
	Revoked   Decision `json:"revoked,omitzero"`
}

// Open is whether it waits for a second officer, and one could still agree;
// changes is how often the officers have changed.
func (p *Proposal) Open(now time.Time, changes uint64) bool {
	return !p.Approved.Made() && !p.Revoked.Made() && p.Change.Base == changes && now.Sub(p.Requested.At) <= ApproveWithin
}
