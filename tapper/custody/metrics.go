package custody

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	written, failed, wrong, gaps, disagreed prometheus.Counter
	newest                                  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, unsigned func() float64) *metrics {
	f := promauto.With(r)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "qstream_tapper_unsigned_records", Help: "Records that were read and are under no checkpoint yet."}, unsigned)
	count := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: "qstream_tapper_" + name + "_total", Help: help})
	}
	return &metrics{
		written:   count("checkpoints", "Checkpoints written by this process; those that came second are ignored by all."),
		failed:    count("checkpoint_failures", "Checkpoints that could not be written, or read back."),
		wrong:     count("checkpoint_forgeries", "Records of the checkpoint topic that are no checkpoints, or contradict those before."),
		gaps:      count("chain_gaps", "Partitions of which records were deleted before they were chained."),
		disagreed: count("chain_disagreements", "Intervals that another process signed and that hold other records than those read here."),
		newest: f.NewGauge(prometheus.GaugeOpts{
			Name: "qstream_tapper_checkpoint_seconds", Help: "When the newest checkpoint was made, since 1970.",
		}),
	}
}
