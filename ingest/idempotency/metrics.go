package idempotency

import "github.com/prometheus/client_golang/prometheus"

type metrics struct{ lookups *prometheus.CounterVec }

// newMetrics registers the metrics; a nil registerer registers nothing.
func newMetrics(r prometheus.Registerer, known func() int) *metrics {
	m := &metrics{lookups: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_idempotency_lookups_total",
		Help: "Keys that were looked up, by result: new, done, taken, unfinished, or fault if nobody could tell."}, []string{"result"})}
	if r != nil {
		r.MustRegister(m.lookups, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "qstream_ingest_idempotency_keys",
			Help: "Keys that this edge remembers."}, func() float64 { return float64(known()) }))
	}
	return m
}
