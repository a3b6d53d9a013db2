package auth

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	results *prometheus.CounterVec
}

// newMetrics registers the metrics; a nil registerer registers nothing.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{results: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_auth_total",
		Help: "Tries to sign in, by mechanism and result: ok, rejected, malformed, cancelled, busy, barred (its network failed too often), error (trouble of ours).",
	}, []string{"mechanism", "result"})}
	if r != nil {
		r.MustRegister(m.results)
	}
	return m
}

func (m *metrics) result(mechanism, result string) {
	m.results.WithLabelValues(mechanism, result).Inc()
}
