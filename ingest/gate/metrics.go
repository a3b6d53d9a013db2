package gate

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	connections *prometheus.CounterVec
	open        *prometheus.GaugeVec
	listed      *prometheus.CounterVec
	failures    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
}

// newMetrics registers the metrics; a nil registerer registers nothing.
func newMetrics(r prometheus.Registerer, entries func() int) *metrics {
	m := &metrics{
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_gate_connections_total",
			Help: "Connections, by service and what became of them before the session: admitted, or the reason for which they were refused."},
			[]string{"service", "result"}),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "qstream_ingest_gate_open_connections",
			Help: "Admitted connections that are open."}, []string{"service"}),
		listed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_gate_listed_total",
			Help: "Admitted connections whose recipients are refused, by a DNS list or RBLSMTPD."}, []string{"service"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_gate_lookup_failures_total",
			Help: "DNS questions without an answer: question name or dnsbl; or a host that didn't say who connects, ident; turn: too many asked at once."}, []string{"question"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "qstream_ingest_gate_lookup_seconds",
			Help: "Time that a connection waited for DNS.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}, []string{"question"}),
	}
	if r != nil {
		r.MustRegister(m.connections, m.open, m.listed, m.failures, m.seconds, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "qstream_ingest_gate_table_entries", Help: "Addresses and networks that are remembered for limits."},
			func() float64 { return float64(entries()) }))
	}
	return m
}

func (m *metrics) enter(service string) {
	m.connections.WithLabelValues(service, "admitted").Inc()
	m.open.WithLabelValues(service).Inc()
}

func (m *metrics) refused(service, reason string) {
	m.connections.WithLabelValues(service, reason).Inc()
}
