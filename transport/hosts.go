package transport

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// Early is a context that ends with ctx or with Revoked. It bounds everything
// that may be cut off: all up to the final dot.
func (a *Attempt) Early(ctx context.Context) (context.Context, func()) {
	early, cancel := context.WithCancel(ctx)
	if a.Revoked == nil {
		return early, cancel
	}
	stop := context.AfterFunc(a.Revoked, cancel)
	if a.Revoked.Err() != nil {
		cancel() // at once: the function above runs beside us
	}
	return early, func() { stop(); cancel() }
}

// AtDot comes to the point of no return; false: the attempt is cut there.
func (a *Attempt) AtDot() bool {
	if a.BeforeDot != nil {
		a.BeforeDot()
	}
	return (a.Revoked == nil || a.Revoked.Err() == nil) && (a.Held == nil || a.Held())
}

// SourceFor picks one of SourceIPs of the peer's family at random; none at all
// leaves the choice to the system. ok is false if the family has none.
func (a *Attempt) SourceFor(peer netip.Addr) (source netip.Addr, ok bool) {
	if len(a.SourceIPs) == 0 {
		return netip.Addr{}, true
	}
	family := slices.DeleteFunc(slices.Clone(a.SourceIPs), func(s netip.Addr) bool {
		return s.Unmap().Is4() != peer.Is4()
	})
	if len(family) == 0 {
		return netip.Addr{}, false
	}
	return family[rand.IntN(len(family))].Unmap(), true
}
