package crash

import (
	"encoding/json"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"qstream/mail"
	"qstream/test/fakemx"
)

// TestVaultAway has the vault's process off under load, for as long as
// QSTREAM_TEST_AWAY says, while other processes take mail and deliver it: what
// an order covers is made up for, and mail goes on as before.
func TestVaultAway(t *testing.T) {
	each(t, "kafka1", "", func(t *testing.T, broker string) {
		away, beat := away(t)
		around := max(3*time.Second, min(time.Minute, away/10)) // before it, and after
		v := found(t)
		tr := start(t, broker, true, fakemx.Config{})
		must(t, tr.Role("tapper", "vault", nil, "--vault", v.dir, "--vault-beat", beat))
		o := tr.order(v)
		const every = 10 // is covered
		tr.to = func(n int) string {
			if n%every == 0 {
				return covered
			}
			return twoTenants(2*n + 1)
		}
		began := time.Now()
		tr.begin(3, 5, 0)
		time.Sleep(around)
		must(t, tr.Signal("vault", syscall.SIGKILL))
		left := time.Now()
		time.Sleep(away)
		back := time.Now()
		accepted := tr.load.Accepted()
		t.Logf("away for %v: %d mails accepted since the load began, %d objects at the sink", back.Sub(left).Round(time.Second), accepted, o.count())
		must(t, tr.Again("vault"))
		t.Logf("ready again after %v", time.Since(back).Round(100*time.Millisecond))
		waitFor(t, "copies and outcomes of what was accepted before", func() bool { return o.count() >= 2*(accepted/every) })
		caught := time.Now()
		t.Logf("copies and outcomes of %d mails are at the sink %v after the process was started again", accepted/every, caught.Sub(back).Round(100*time.Millisecond))
		time.Sleep(around)
		ended := time.Now()
		tr.end()
		tr.settle("a vault that was away", 0)
		all := tr.transits()
		for _, w := range []struct {
			name     string
			from, to time.Time
		}{{"before", began, left}, {"away", left, back}, {"catching up", back, caught}, {"after", caught, ended}} {
			median, p99, n := between(all, w.from, w.to)
			t.Logf("%s, %v: accepted to delivered, median %v, p99 %v of %d mails", w.name, w.to.Sub(w.from).Round(time.Second), median, p99, n)
		}
		o.complete()
		var late time.Time // the last of what came before the process was started again
		for _, b := range o.objects() {
			if at, ok := mail.IDTime(b.message); ok && at.Before(back) && b.at.After(late) {
				late = b.at
			}
		}
		t.Logf("everything of before was at the sink %v after the process was started again", late.Sub(back).Round(100*time.Millisecond))
	})
}

// away is for how long the vault is off, and its beat: by default some seconds
// and a fast beat, a minute where there is time for more.
func away(t *testing.T) (time.Duration, string) {
	t.Helper()
	text := os.Getenv("QSTREAM_TEST_AWAY")
	switch {
	case text == "" && long:
		text = "1m"
	case text == "":
		return 5 * time.Second, "500ms"
	}
	d, err := time.ParseDuration(text)
	must(t, err)
	return d, "5s"
}

// transit is the way of a mail from accepted to delivered.
type transit struct {
	at   time.Time
	took time.Duration
}

// transits are those of the trial, by its events.
func (tr *trial) transits() (all []transit) {
	tr.t.Helper()
	began, ended := map[string]int64{}, map[string]int64{}
	for _, r := range tr.tail("events") {
		var e struct {
			Type      string
			MessageID string `json:"message_id"`
			AtMs      int64  `json:"at_ms,string"`
		}
		must(tr.t, json.Unmarshal(r.Value, &e))
		switch e.Type {
		case "EVENT_TYPE_ACCEPTED":
			began[e.MessageID] = e.AtMs
		case "EVENT_TYPE_DELIVERED":
			ended[e.MessageID] = e.AtMs
		}
	}
	for id, at := range ended {
		all = append(all, transit{time.UnixMilli(began[id]), time.Duration(at-began[id]) * time.Millisecond})
	}
	if len(all) == 0 {
		tr.t.Fatal("no event tells of a delivery")
	}
	return all
}

// between are the median and the 99th percentile of the mail that was accepted
// in a time, and how much that was.
func between(all []transit, from, to time.Time) (median, p99 time.Duration, n int) {
	var some []time.Duration
	for _, w := range all {
		if !w.at.Before(from) && w.at.Before(to) {
			some = append(some, w.took)
		}
	}
	if len(some) == 0 {
		return 0, 0, 0
	}
	slices.Sort(some)
	return some[len(some)/2], some[len(some)*99/100], len(some)
}
