package vault

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// register tells metrics of the vault's surroundings. None depends on orders.
func (v *Vault) register(r prometheus.Registerer) error {
	if r == nil {
		return nil
	}
	err := r.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "qstream_tapper_vault_retention_unknown",
		Help: "1 while the broker doesn't tell for how long topics keep mail: the vault's alarms may come too early or too late.",
	}, func() float64 {
		v.mu.Lock()
		defer v.mu.Unlock()
		if v.keepless {
			return 1
		}
		return 0
	}))
	if err != nil {
		return fmt.Errorf("vault: %w", err)
	}
	return nil
}
