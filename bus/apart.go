package bus

import (
	"fmt"
	"log/slog"
)

// Apart is another bus on the same brokers that shows nowhere in this process:
// it has no metrics and no log, and what is read by it doesn't count as read
// (Config.Spent). The caller closes it.
func (b *Bus) Apart() (*Bus, error) {
	cfg := b.cfg
	cfg.Registerer, cfg.Spent, cfg.Log = nil, nil, slog.New(slog.DiscardHandler)
	apart, err := Dial(cfg)
	if err != nil {
		return nil, fmt.Errorf("dial apart: %w", err)
	}
	return apart, nil
}
