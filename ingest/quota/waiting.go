package quota

import (
	"time"

	pb "qstream/schemas/qstream/v1"
)

const (
	// forgotten is after how long a silent ledger is forgotten.
	forgotten = 10 * time.Minute
	// maxLedgers bounds how many ledgers are listened to.
	maxLedgers = 16
)

// Waits is what waits of a tenant or user, as a ledger told it.
type Waits struct {
	Messages   int64         `json:"messages"`
	Recipients int64         `json:"recipients"`
	Bytes      int64         `json:"bytes"`
	Oldest     time.Duration `json:"-"` // age of the oldest without an attempt; 0: there is none
}

// figures are what one ledger told.
type figures struct {
	asOf  time.Time // zero: it hasn't told everything yet
	heard time.Time
	waits map[owner]waits
}

type owner struct{ tenant, user string }

type waits struct {
	Use
	oldest int64 // birth, Unix milliseconds
}

func (b *Book) takeFigures(u *pb.Usage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.ledgers[u.Writer]
	if f == nil {
		if len(b.ledgers) >= maxLedgers {
			b.metrics.missed.WithLabelValues("room").Inc()
			return
		}
		f = &figures{waits: map[owner]waits{}}
		b.ledgers[u.Writer] = f
	}
	f.heard = b.cfg.Now()
	if u.Kind == pb.UsageKind_USAGE_KIND_LEDGER {
		f.asOf = time.UnixMilli(u.AtMs)
		return
	}
	o, w := owner{u.Tenant, u.User}, waits{useOf(u), u.OldestMs}
	_, known := f.waits[o]
	switch {
	case w == (waits{}):
		delete(f.waits, o)
	case known || len(f.waits) < b.cfg.MaxScopes:
		f.waits[o] = w
	default:
		b.metrics.missed.WithLabelValues("room").Inc()
	}
}

// Waiting is what waits of a tenant, or of a user, by the ledger that knows
// most; ok is false if none has told for Config.Stale.
func (b *Book) Waiting(tenant, user string) (w Waits, ok bool) {
	now := b.cfg.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	var best *figures
	for _, f := range b.ledgers {
		if !f.asOf.IsZero() && (best == nil || f.asOf.After(best.asOf)) {
			best = f
		}
	}
	if best == nil || now.Sub(best.asOf) > b.cfg.Stale {
		b.metrics.missed.WithLabelValues("ledger").Inc()
		if !b.blind {
			b.blind = true
			b.cfg.Log.Warn("no ledger tells what waits: quotas of waiting mail are not applied", "stage", "ingest", "tenant", tenant)
		}
		return Waits{}, false
	}
	if b.blind {
		b.blind = false
		b.cfg.Log.Info("a ledger tells what waits: quotas of waiting mail are applied", "stage", "ingest")
	}
	found := best.waits[owner{tenant, user}]
	w = Waits{Messages: found.Messages, Recipients: found.Recipients, Bytes: found.Bytes}
	if found.oldest > 0 {
		w.Oldest = max(best.asOf.Sub(time.UnixMilli(found.oldest)), 0)
	}
	return w, true
}
