package smtpd

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	errors prometheus.Counter
}

// newMetrics registers the metrics; a nil registerer registers nothing.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "qstream_ingest_smtp_protocol_errors_total", Help: "SMTP commands that broke the protocol."}),
	}
	if r != nil {
		r.MustRegister(m.errors)
	}
	return m
}
