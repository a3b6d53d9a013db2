package bus

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kprom"
)

// metrics are what a Bus tells about itself; without a registerer nothing.
type metrics struct {
	hook    kgo.Hook
	publish prometheus.Histogram
	failed  prometheus.Counter
	records prometheus.Counter
	broken  prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		publish: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "qstream_bus_publish_seconds", Help: "Time until records were durable.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 16),
		}),
		failed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "qstream_bus_publish_errors_total", Help: "Publishes that failed or took too long."}),
		records: prometheus.NewCounter(prometheus.CounterOpts{Name: "qstream_bus_published_total", Help: "Records published."}),
		broken:  prometheus.NewCounter(prometheus.CounterOpts{Name: "qstream_bus_content_errors_total", Help: "Content that could not be read as it was stored."}),
	}
	if reg != nil {
		reg.MustRegister(m.publish, m.failed, m.records, m.broken)
		m.hook = &clientHook{Metrics: kprom.NewMetrics("qstream",
			kprom.Subsystem("kafka"), kprom.Registerer(reg),
			kprom.FetchAndProduceDetail(kprom.ByNode, kprom.UncompressedBytes, kprom.Batches))}
	}
	return m
}

func (m *metrics) published(n int, took time.Duration, err error) {
	if err != nil {
		m.failed.Inc()
		return
	}
	m.publish.Observe(took.Seconds())
	m.records.Add(float64(n))
}

// clientHook lets all clients of a process share one set of metrics: the
// library would register them once per client. Topics are no label, since
// their number grows with the queues.
type clientHook struct {
	*kprom.Metrics
	once sync.Once
}

func (h *clientHook) OnNewClient(c *kgo.Client) { h.once.Do(func() { h.Metrics.OnNewClient(c) }) }

func (h *clientHook) OnClientClosed(*kgo.Client) {}
