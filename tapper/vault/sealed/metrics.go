package sealed

import "github.com/prometheus/client_golang/prometheus"

// metrics tell of the clock and of what can't be read, never of what is said.
type metrics struct {
	ticks, missed, garbage, missing prometheus.Counter
}

func newMetrics(r prometheus.Registerer, s *Set) (*metrics, error) {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "qstream_tapper_vault_" + name, Help: help})
	}
	m := &metrics{
		ticks:   counter("ticks_total", "Records written to the vault's topics: one for each beat of the clock."),
		missed:  counter("missed_total", "Beats of the clock at which nothing could be written."),
		garbage: counter("unreadable_total", "Records of the vault's topics that can't be opened."),
		missing: counter("missing_total", "Records of the vault's topics that must have been there and are not."),
	}
	if r == nil {
		return m, nil
	}
	standby := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "qstream_tapper_vault_standby", Help: "1 while another process writes the vault's topics, or none does yet.",
	}, func() float64 {
		if s.Active() {
			return 0
		}
		return 1
	})
	lacking := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "qstream_tapper_vault_key_lacking", Help: "1 while the vault's folder here lacks a key that others seal with, or has another of its number: alarm at once.",
	}, func() float64 { return min(float64(s.lacks()), 1) })
	for _, c := range []prometheus.Collector{m.ticks, m.missed, m.garbage, m.missing, standby, lacking} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
