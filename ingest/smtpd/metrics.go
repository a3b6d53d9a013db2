package smtpd

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	errors prometheus.Counter
	ends   *prometheus.CounterVec
}

// newMetrics registers the metrics; a nil registerer registers nothing.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		errors: prometheus.NewCounter(prometheus.CounterOpts{Name: "qstream_ingest_smtp_protocol_errors_total", Help: "SMTP commands that broke the protocol."}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_smtp_ends_total",
			Help: "SMTP dialogues that ended, by how: done, refused (before or at a command that ends it), timeout (a command or content didn't come in time), drained, errors, failures (to sign in), ahead (content before DATA was answered), broken."}, []string{"end"}),
	}
	if r != nil {
		r.MustRegister(m.errors, m.ends)
	}
	return m
}
