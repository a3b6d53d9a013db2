package crash

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"qstream/bus"
	"qstream/schemas"
	"qstream/test/fakemx"
)

const (
	manyLegs = 100_000
	resumes  = 10 * time.Second // after the kill of a process
	failover = 30 * time.Second // after the kill of a broker
)

// TestRecovery kills each role, and `up`, while 100,000 legs wait, and starts
// it again at once. How long a silence follows is seen at the sink: in mail
// that comes in for another tenant, and in legs that come due every second.
// Then the same with the legs in a queue topic, where deliver takes them from.
func TestRecovery(t *testing.T) {
	needLong(t)
	each(t, "embedded,kafka1", "kafka3", func(t *testing.T, broker string) {
		tr, k := waiting(t, broker)
		victims := []string{"router", "delay", "deliver"}
		if broker == "embedded" {
			victims = []string{"up"}
		}
		for _, name := range victims {
			k.comeDue(tr, 40)
			time.Sleep(4 * time.Second)
			tr.recovers(name, "100,000 legs in delay")
		}
		tr.floods(k, victims[len(victims)-1])
		tr.end()
		tr.settle("kills with 100,000 legs", (len(victims)+2)*inFlight)
	})
}

// waiting starts a trial in which many legs wait and mail comes in and goes on.
func waiting(t *testing.T, broker string) (*trial, *backlog) {
	t.Helper()
	tr := start(t, broker, true, fakemx.Config{})
	k := newBacklog(t, tr.dial())
	k.wait(tr, manyLegs)
	tr.to = func(int) string { return "user@acme.example" } // behind nobody's backlog
	tr.begin(5, 20, 0)
	waitFor(t, "the first mail", func() bool { return tr.arrived("user@") > 20 })
	return tr, k
}

// wait puts legs into the delay tiers, due in three hours.
func (k *backlog) wait(tr *trial, n int) {
	port := strconv.Itoa(tr.sink.Port())
	k.put(n, func(i int) bus.Record {
		l := k.leg(i, fmt.Sprint("beta-", i%hosts), port)
		l.DueMs = time.Now().Add(3 * time.Hour).UnixMilli()
		return bus.NewWaiting(schemas.DelayTopics()[4], l)
	})
}

// comeDue puts legs into the first tier, two due in each of the next seconds.
func (k *backlog) comeDue(tr *trial, seconds int) {
	port := strconv.Itoa(tr.sink.Port())
	now := time.Now()
	k.put(2*seconds, func(i int) bus.Record {
		l := k.leg(i, fmt.Sprint("beta-", i%hosts), port)
		l.DueMs = now.Add(time.Duration(i) * time.Second / 2).UnixMilli()
		return bus.NewWaiting(schemas.DelayTopics()[0], l)
	})
}

// recovers kills a process, starts it again, and measures the longest silence
// of the next half minute.
func (tr *trial) recovers(name, with string) {
	tr.t.Helper()
	killed := time.Now()
	must(tr.t, tr.Signal(name, syscall.SIGKILL))
	must(tr.t, tr.Again(name))
	ready := time.Since(killed)
	time.Sleep(time.Until(killed.Add(25 * time.Second)))
	now := time.Now()
	mail, due := tr.silence("user@", killed, now), tr.silence("waits@", killed, now)
	tr.t.Logf("%s killed, %s: ready again after %.1f s; silence of new mail %.1f s, of legs that come due %.1f s",
		name, with, ready.Seconds(), mail.Seconds(), due.Seconds())
	if mail > resumes || due > resumes {
		tr.t.Errorf("%s: silence of %v and %v, wanted at most %v\n%s", name, mail, due, resumes, tr.LogTail(name))
	}
}

// floods lets 100,000 legs lie on a queue topic when its deliverer is killed.
func (tr *trial) floods(k *backlog, name string) {
	tr.t.Helper()
	port := strconv.Itoa(tr.sink.Port())
	k.b = tr.dial() // an embedded broker has another address now
	k.put(manyLegs, func(i int) bus.Record {
		return bus.NewLeg(schemas.Queue("beta", 1), k.leg(i, fmt.Sprint("beta-", i%hosts), port))
	})
	waitFor(tr.t, "the first of them", func() bool { return tr.arrived("waits@") > 100 })
	tr.recovers(name, "100,000 legs in a queue topic")
}

// arrived counts what the sink took for recipients that begin so.
func (tr *trial) arrived(prefix string) (n int) {
	for _, m := range tr.sink.Accepted() {
		if strings.HasPrefix(m.Rcpts[0], prefix) {
			n++
		}
	}
	return n
}

// silence is the longest time between two arrivals for recipients that begin
// so.
func (tr *trial) silence(prefix string, from, to time.Time) (longest time.Duration) {
	last := from
	for _, m := range tr.sink.Accepted() {
		if strings.HasPrefix(m.Rcpts[0], prefix) && m.Time.After(last) && m.Time.Before(to) {
			longest, last = max(longest, m.Time.Sub(last)), m.Time
		}
	}
	return max(longest, to.Sub(last))
}

// TestRecoveryBroker kills one of three brokers while 100,000 legs wait:
// deliveries go on within 30 s, and nobody is told 5xx.
func TestRecoveryBroker(t *testing.T) {
	needLong(t)
	each(t, "kafka3", "", func(t *testing.T, broker string) {
		tr, k := waiting(t, broker)
		for i, b := range tr.Kafka.Brokers[:2] {
			k.comeDue(tr, 50)
			killed := time.Now()
			must(t, b.Kill())
			time.Sleep(40 * time.Second)
			now := time.Now()
			mail, due := tr.silence("user@", killed, now), tr.silence("waits@", killed, now)
			t.Logf("broker %d of three killed: silence of new mail %.1f s, of legs that come due %.1f s", i, mail.Seconds(), due.Seconds())
			if mail > failover || due > failover {
				t.Errorf("silence of %v and %v, wanted at most %v", mail, due, failover)
			}
			must(t, b.Start(t.Context()))
			time.Sleep(10 * time.Second)
		}
		tr.end()
		tr.settle("brokers killed with 100,000 legs", 0)
	})
}
