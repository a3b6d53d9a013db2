package archive

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	copies   *prometheus.CounterVec
	taken    *prometheus.CounterVec
	failures *prometheus.CounterVec
	failing  *prometheus.GaugeVec
	lost     *prometheus.CounterVec
	kept     prometheus.Counter
	poison   prometheus.Counter
	seconds  prometheus.Histogram
	waited   prometheus.Histogram
}

// newMetrics has the label archive, which the directory bounds.
func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		copies: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_tapper_archive_copies_total", Help: "Copies put on the topics of archives.",
		}, []string{"archive"}),
		taken: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_tapper_archive_taken_total", Help: "Copies that sinks of archives have taken.",
		}, []string{"archive"}),
		failures: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_tapper_archive_failures_total", Help: "Times that an archive's sink did not take a copy.",
		}, []string{"archive"}),
		failing: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "qstream_tapper_archive_failing", Help: "1: the archive's sink takes no copies at present.",
		}, []string{"archive"}),
		lost: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_tapper_archive_lost_total", Help: "Messages whose content aged out before the archive's sink took it.",
		}, []string{"archive"}),
		kept: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_tapper_archive_kept_total", Help: "Contents copied to hold, since a sink waits for long.",
		}),
		poison: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_tapper_archive_poison_total", Help: "Records that can't be read, given to the deadletter topic.",
		}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "qstream_tapper_archive_put_seconds", Help: "Time that a sink took for a copy.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60, 300},
		}),
		waited: f.NewHistogram(prometheus.HistogramOpts{
			Name: "qstream_tapper_archive_wait_seconds", Help: "Age of copies when their sink took them.",
			Buckets: []float64{.1, .5, 2, 10, 60, 600, 3600, 86400},
		}),
	}
}
