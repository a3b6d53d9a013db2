package quota

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	missed *prometheus.CounterVec
	limits *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, b *Book) *metrics {
	m := &metrics{
		missed: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_quota_missed_total",
			Help: "What couldn't be counted or asked: room for so many tenants and users, publish to the other edges, ledger if none tells what waits, clock of an edge that is minutes ahead."}, []string{"what"}),
		limits: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "qstream_ingest_quota_limits_total",
			Help: "Mail above a limit of a quota, by limit and by what was done: defer, reject or hold."}, []string{"limit", "action"}),
	}
	if r != nil {
		r.MustRegister(m.missed, m.limits, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "qstream_ingest_quota_scopes",
			Help: "Tenants and users, by direction, whose mail of the last hour is counted."}, func() float64 { return float64(b.Scopes()) }))
	}
	return m
}
