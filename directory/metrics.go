package directory

import "github.com/prometheus/client_golang/prometheus"

// Register makes the follower's state visible: the number in force, records
// that could not be read, and whether the newest apply isn't understood here.
func (f *Follower) Register(r prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "qstream_directory_number", Help: "Number of the directory in force in this process.",
		}, func() float64 { return float64(f.Snapshot().Number) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "qstream_directory_records_skipped_total", Help: "Records of the directory topic that could not be read.",
		}, func() float64 { return float64(f.Skipped()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "qstream_directory_fault", Help: "1 while the newest apply is not understood and an older one stays in force.",
		}, func() float64 {
			if f.Fault() != nil {
				return 1
			}
			return 0
		}),
	} {
		if err := r.Register(c); err != nil {
			return err
		}
	}
	return nil
}
