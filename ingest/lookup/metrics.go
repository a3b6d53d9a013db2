package lookup

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/ingest/policy"
)

type metrics struct{ seconds *prometheus.HistogramVec }

// newMetrics registers the metrics; a nil registerer registers nothing.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "qstream_ingest_lookup_seconds", Help: "Time until a fact was known that a policy asked for, by fact and answer.",
		Buckets: prometheus.ExponentialBuckets(0.0001, 4, 10),
	}, []string{"fact", "answer"})}
	if r != nil {
		r.MustRegister(m.seconds)
	}
	return m
}

var answers = map[policy.Answer]string{policy.Yes: "yes", policy.No: "no", policy.Fault: "fault"}

func (m *metrics) asked(fact string, a policy.Answer, took time.Duration) {
	m.seconds.WithLabelValues(fact, answers[a]).Observe(took.Seconds())
}
