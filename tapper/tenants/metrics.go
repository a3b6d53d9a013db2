package tenants

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	derived prometheus.Counter
	skipped prometheus.Counter
	served  prometheus.Counter
	cutOff  prometheus.Counter
	asked   *prometheus.CounterVec // by code
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		derived: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "qstream_tapper_tenant_events_total", Help: "Events written to tenants' topics.",
		}),
		skipped: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "qstream_tapper_skipped_records_total", Help: "Records of the events topic that are no events.",
		}),
		served: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "qstream_tapper_served_events_total", Help: "Events that tenants read over HTTP.",
		}),
		cutOff: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "qstream_tapper_event_answers_cut_total", Help: "Answers with events whose reader went away, or took them too slowly.",
		}),
		asked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qstream_tapper_event_requests_total", Help: "Requests for events over HTTP, by status code.",
		}, []string{"code"}),
	}
	if r != nil {
		r.MustRegister(m.derived, m.skipped, m.served, m.cutOff, m.asked)
	}
	return m
}
