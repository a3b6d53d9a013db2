package bus

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// counts are what an engine adds up; its lock guards them.
type counts struct {
	committed, failed, records float64
	seconds                    float64
	lost, cut                  float64
	dead                       atomic.Int64 // counted without the lock
}

// engines are the running shapes of a Bus; as a collector it tells about each
// by its group.
type engines struct {
	mu  sync.Mutex
	set map[*engine]bool
}

func (s *engines) add(e *engine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		s.set = map[*engine]bool{}
	}
	s.set[e] = true
}

func (s *engines) remove(e *engine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.set, e)
}

func (s *engines) all() []*engine {
	s.mu.Lock()
	defer s.mu.Unlock()
	es := make([]*engine, 0, len(s.set))
	for e := range s.set {
		es = append(es, e)
	}
	return es
}

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("qstream_bus_"+name, help, []string{"group"}, nil)
}

var (
	descCommitted   = desc("transactions_total", "Transactions that committed.")
	descFailed      = desc("transaction_failures_total", "Transactions that failed; their results were kept.")
	descRecords     = desc("transaction_records_total", "Records published by transactions.")
	descSeconds     = desc("transaction_seconds_total", "Time spent in transactions.")
	descOpen        = desc("transaction_open_seconds", "Age of the transaction that is open.")
	descUncommitted = desc("uncommitted", "Results that are in no commit.")
	descOldest      = desc("uncommitted_oldest_seconds", "Age of the oldest result in no commit.")
	descPartitions  = desc("partitions", "Partitions owned.")
	descStopped     = desc("stopped_partitions", "Partitions that stand still for want of a commit in range.")
	descLost        = desc("lost_partitions_total", "Partitions lost without a hand-over.")
	descCut         = desc("progress_cut_total", "Commits whose progress did not fit.")
	descDead        = desc("deadletter_total", "Records moved to deadletter.")
)

// Describe tells nothing in advance: groups come and go.
func (s *engines) Describe(chan<- *prometheus.Desc) {}

// Collect tells of every running shape.
func (s *engines) Collect(ch chan<- prometheus.Metric) {
	for _, e := range s.all() {
		e.collect(ch)
	}
}

func (e *engine) collect(ch chan<- prometheus.Metric) {
	e.mu.Lock()
	defer e.mu.Unlock()
	total := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, e.group)
	}
	now := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, e.group)
	}
	total(descCommitted, e.counts.committed)
	total(descFailed, e.counts.failed)
	total(descRecords, e.counts.records)
	total(descSeconds, e.counts.seconds)
	total(descLost, e.counts.lost)
	total(descCut, e.counts.cut)
	total(descDead, float64(e.counts.dead.Load()))
	now(descOpen, age(e.begun))
	now(descUncommitted, float64(e.pending))
	now(descOldest, age(e.waiting))
	now(descPartitions, float64(len(e.parts)))
	now(descStopped, float64(len(e.stopped)))
}

func age(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return time.Since(t).Seconds()
}

// ended counts a transaction.
func (e *engine) ended(b *batch, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts.seconds += age(e.begun)
	e.begun = time.Time{}
	if err != nil {
		e.counts.failed++
		return
	}
	e.counts.committed++
	e.counts.records += float64(b.records)
}
