package control

import "github.com/prometheus/client_golang/prometheus"

// Register makes the follower's state visible: how much is suspended, and
// records that could not be read.
func (f *Follower) Register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "qstream_control_suspensions", Help: "Suspensions in force.",
		}, func() float64 { return float64(len(f.State().standing)) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "qstream_control_records_skipped_total", Help: "Records of the control topic that could not be read.",
		}, func() float64 { return float64(f.Skipped()) }),
	} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
