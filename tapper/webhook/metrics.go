package webhook

import "github.com/prometheus/client_golang/prometheus"

// metrics are labelled by webhook: documents bound them.
type metrics struct {
	posts  *prometheus.CounterVec
	events *prometheus.CounterVec
	down   *prometheus.GaugeVec
	paused *prometheus.GaugeVec
	oldest *prometheus.GaugeVec
}

// Ends of events, and of posts.
const (
	endTaken   = "taken"
	endFailed  = "failed"
	endDead    = "dead"
	endSkipped = "skipped"
)

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		posts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_tapper_webhook_posts_total", Help: "Posts to webhooks' endpoints, by how they ended.",
		}, []string{"webhook", "end"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_tapper_webhook_events_total", Help: "Events that a webhook is done with: taken, dead, or not asked for.",
		}, []string{"webhook", "end"}),
		down: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "qstream_tapper_webhook_down", Help: "1 while an endpoint takes nothing.",
		}, []string{"webhook"}),
		paused: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "qstream_tapper_webhook_paused", Help: "1 while a webhook is paused.",
		}, []string{"webhook"}),
		oldest: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "qstream_tapper_webhook_oldest_seconds", Help: "Age of the oldest event that a webhook's endpoint was asked to take and hasn't.",
		}, []string{"webhook"}),
	}
	if r != nil {
		r.MustRegister(m.posts, m.events, m.down, m.paused, m.oldest)
	}
	return m
}

// forget drops what is told of a webhook that doesn't run.
func (m *metrics) forget(name string) {
	m.down.DeleteLabelValues(name)
	m.oldest.DeleteLabelValues(name)
}

func (m *metrics) pause(name string, paused bool) {
	v := 0.0
	if paused {
		v = 1
	}
	m.paused.WithLabelValues(name).Set(v)
}
