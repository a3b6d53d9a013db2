package intake

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	messages   prometheus.Counter
	recipients prometheus.Counter
	bytes      prometheus.Counter
	refusals   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
}

// newMetrics registers the metrics; a nil registerer registers nothing.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		messages:   prometheus.NewCounter(prometheus.CounterOpts{Name: "qstream_ingest_messages_total", Help: "Messages accepted."}),
		recipients: prometheus.NewCounter(prometheus.CounterOpts{Name: "qstream_ingest_recipients_total", Help: "Recipients of accepted messages."}),
		bytes:      prometheus.NewCounter(prometheus.CounterOpts{Name: "qstream_ingest_content_bytes_total", Help: "Content of accepted messages."}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_refusals_total",
			Help: "Commands and messages refused, by reason; reason fault is our own trouble."}, []string{"reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "qstream_ingest_publish_seconds",
			Help: "Time until the received record was acknowledged.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16)}, []string{"result"}),
	}
	if r != nil {
		r.MustRegister(m.messages, m.recipients, m.bytes, m.refusals, m.seconds)
	}
	return m
}

func (m *metrics) accepted(recipients int, size int64) {
	m.messages.Inc()
	m.recipients.Add(float64(recipients))
	m.bytes.Add(float64(size))
}

func (m *metrics) refused(reason string) { m.refusals.WithLabelValues(reason).Inc() }

func (m *metrics) stored(took time.Duration, err error) {
	result := "ok"
	if err != nil {
		result = "error"
	}
	m.seconds.WithLabelValues(result).Observe(took.Seconds())
}
