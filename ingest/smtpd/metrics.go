package smtpd

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	open        prometheus.Gauge
	connections *prometheus.CounterVec
	errors      prometheus.Counter
}

// newMetrics registers the metrics; a nil registerer registers nothing.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		open: prometheus.NewGauge(prometheus.GaugeOpts{Name: "qstream_ingest_smtp_open_connections", Help: "SMTP connections that are open."}),
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_smtp_connections_total",
			Help: "SMTP connections, by whether they were accepted."}, []string{"result"}),
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "qstream_ingest_smtp_protocol_errors_total", Help: "SMTP commands that broke the protocol."}),
	}
	if r != nil {
		r.MustRegister(m.open, m.connections, m.errors)
	}
	return m
}
