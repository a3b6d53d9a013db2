package delay

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	fates      *prometheus.CounterVec
	lateness   prometheus.Histogram
	pulled     *prometheus.CounterVec
	kept       *prometheus.CounterVec
	duplicates prometheus.Counter
	poison     prometheus.Counter
	overdue    *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	f := promauto.With(r)
	return &metrics{
		fates: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_delay_legs_total", Help: "Waiting legs taken up, by what became of them.",
		}, []string{"fate"}),
		lateness: f.NewHistogram(prometheus.HistogramOpts{
			Name: "qstream_delay_lateness_seconds", Help: "Time from due to release.",
			Buckets: []float64{.05, .1, .25, .5, 1, 2, 5, 15, 60, 300},
		}),
		pulled: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_delay_pulled_total", Help: "Legs taken up before they were due, by reason.",
		}, []string{"why"}),
		kept: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_delay_copies_total", Help: "Contents of waiting legs copied to hold, by outcome.",
		}, []string{"outcome"}),
		duplicates: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_delay_duplicates_total", Help: "Legs dropped because they repeat an earlier one.",
		}),
		poison: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_delay_poison_total", Help: "Records that can't be read, given to the deadletter topic.",
		}),
		overdue: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "qstream_delay_overdue_legs", Help: "Legs that still lie in their queue 25 s after the end of their lifetime.",
		}, []string{"queue"}),
	}
}
