package ledger

import (
	"context"
	"time"

	"qstream/bus"
	"qstream/schemas"
)

// pruneEvery is how often is looked for what is older than the events that it
// was told by.
const pruneEvery = 10 * time.Minute

// pruning forgets ended messages whose events are gone, and old rates.
func (v *view) pruning(ctx context.Context) error {
	for {
		if err := v.prune(ctx); err != nil {
			return err
		}
		if !bus.Pause(ctx, pruneEvery) {
			return nil
		}
	}
}

func (v *view) prune(ctx context.Context) error {
	kept, err := v.deps.Bus.Retention(ctx, schemas.Events)
	if err != nil {
		if ctx.Err() == nil {
			v.deps.Log.Warn("retention of events is unknown, nothing is pruned", "stage", stageName, "err", err)
		}
		return nil
	}
	now := v.deps.Now()
	if kept <= 0 {
		return v.store.PruneRates(ctx, now.Unix()/60-rateMinutes)
	}
	for ctx.Err() == nil {
		n, err := v.store.Prune(ctx, now.Add(-kept))
		if err != nil || n == 0 {
			return err
		}
	}
	return v.store.PruneRates(ctx, now.Unix()/60-rateMinutes)
}
