package scanner

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	legs       *prometheus.CounterVec
	verdicts   *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
	kept       prometheus.Counter
	content    prometheus.Counter
	duplicates prometheus.Counter
	poison     prometheus.Counter
	down       *prometheus.GaugeVec
	built      *prometheus.GaugeVec
	age        *prometheus.GaugeVec
	old        *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer, running func() float64) *metrics {
	f := promauto.With(r)
	f.NewGaugeFunc(prometheus.GaugeOpts{Name: "qstream_scanner_running_scans", Help: "Legs that are scanned now."}, running)
	return &metrics{
		legs: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_scanner_legs_total", Help: "Legs taken up, by what became of them; one may become several.",
		}, []string{"action"}),
		verdicts: f.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_scanner_verdicts_total", Help: "Verdicts, by engine and outcome.",
		}, []string{"engine", "outcome"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "qstream_scanner_scan_seconds", Help: "Time that an engine took for a message.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60, 300},
		}, []string{"engine"}),
		kept: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_scanner_kept_verdicts_total", Help: "Verdicts that another leg's scan of the same content gave.",
		}),
		content: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_scanner_unreadable_content_total", Help: "Contents that are not as they were stored.",
		}),
		duplicates: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_scanner_duplicates_total", Help: "Legs dropped because they repeat an earlier one.",
		}),
		poison: f.NewCounter(prometheus.CounterOpts{
			Name: "qstream_scanner_poison_total", Help: "Records that can't be read, given to the deadletter topic.",
		}),
		down: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "qstream_scanner_engine_down", Help: "1: the engine gives no verdicts, and is asked by a probe now and then.",
		}, []string{"engine"}),
		built: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "qstream_scanner_signatures_built_seconds", Help: "When an engine's signatures were made, since 1970.",
		}, []string{"engine"}),
		age: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "qstream_scanner_signatures_age_seconds", Help: "How old an engine's signatures are, where it tells their date.",
		}, []string{"engine"}),
		old: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "qstream_scanner_signatures_old", Help: "1: an engine's signatures are older than its max_age.",
		}, []string{"engine"}),
	}
}

func (m *metrics) verdict(v said) {
	m.verdicts.WithLabelValues(v.Engine, v.Outcome.String()).Inc()
	if v.kept {
		m.kept.Inc()
	}
}
