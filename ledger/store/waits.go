package store

import (
	"context"
	"fmt"

	"qstream/ledger/fold"
	pb "qstream/schemas/qstream/v1"
)

// Waits counts all that waits, for quotas: it looks at every leg.
func (s *Store) Waits(ctx context.Context) (fold.Waits, error) {
	query := fmt.Sprintf(`SELECT tenant, user, CASE WHEN attempt = 0 AND place NOT IN (%d, %d) AND reason <> %d THEN born_ms / 1000 ELSE -1 END AS fresh,
		count(*), sum(recipients), sum(size) FROM legs WHERE number >= 0 AND report = 0 AND tenant <> '' GROUP BY tenant, user, fresh`,
		fold.Parked, fold.Deadletter, pb.Reason_REASON_BREAKER)
	waits := fold.Waits{}
	err := each(ctx, s.read, query, nil, func(scan scanner) error {
		var o fold.Owner
		var born int64
		var sum fold.Wait
		if err := scan(&o.Tenant, &o.User, &born, &sum.Legs, &sum.Recipients, &sum.Bytes); err != nil {
			return err
		}
		owners := []fold.Owner{{Tenant: o.Tenant}}
		if o.User != "" {
			owners = append(owners, o)
		}
		for _, owner := range owners {
			waits.Join(fold.Waits{owner: {Wait: sum, Fresh: fresh(born, sum.Legs)}})
		}
		return nil
	})
	return waits, failed("count what waits", err)
}

func fresh(born, legs int64) map[int64]int64 {
	if born < 0 {
		return nil
	}
	return map[int64]int64{born: legs}
}
