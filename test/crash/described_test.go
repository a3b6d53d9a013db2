package crash

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"qstream/bus/bustest"
)

// described is what brokers told at a time.
type described struct {
	bustest.Described
	at time.Time
}

// describe asks the brokers as who may describe everything; of the embedded
// one nobody can ask.
func (tr *trial) describe() *described {
	tr.t.Helper()
	if tr.Kafka == nil {
		return nil
	}
	d, err := bustest.Describe(tr.t.Context(), tr.Kafka.Seeds())
	must(tr.t, err)
	return &described{d, time.Now()}
}

// changing are the parts of names that are another in every run: ids, ports
// and folders.
var changing = regexp.MustCompile(`[0-9A-Z]{20,}|127\.0\.0\.1:\d+|/[^ ,]*/broker-\d`)

func same(text string) string { return changing.ReplaceAllString(text, "X") }

// brokers adds what brokers tell, and at which rate the vault's topics grew.
func (tr *trial) brokers(seen *view, before, after *described) {
	tr.t.Helper()
	if after == nil {
		return
	}
	if len(after.Topics) < 30 || len(after.Groups) < 4 || len(after.Transactions) == 0 {
		tr.t.Errorf("too little is described: %d topics, groups %v, transactions %v", len(after.Topics), after.Groups, after.Transactions)
	}
	for what, told := range map[string]map[string]string{
		"topic": after.Topics, "group": after.Groups, "transactions of": after.Transactions,
	} {
		for name, text := range told {
			seen.fact("%s %s: %s", what, same(name), same(text))
		}
	}
	for what, told := range after.Others {
		for name, text := range told {
			seen.fact("%s, %s: %s", what, same(name), same(fmt.Sprint(text)))
		}
	}
	for topic, ids := range after.Producers {
		seen.fact("producers on %s: %d", topic, len(ids))
	}
	for topic, n := range after.Starts {
		seen.fact("oldest offset of %s: %d", topic, n)
	}
	for group, n := range after.Lags {
		seen.amounts["lag of "+group] = amount{float64(n), 1.2, 60} // what is under way
	}
	for topic, n := range after.Ends {
		if !strings.HasPrefix(topic, "qstream.vault.") {
			// A quick run has more transactions, and so more of their markers.
			seen.amounts["end of "+topic] = amount{float64(n), 3, 200}
			continue
		}
		grown := float64(n-before.Ends[topic]) / after.at.Sub(before.at).Seconds()
		seen.amounts["records a second on "+topic] = amount{grown, 1.3, 1}
		size := float64(after.Bytes[topic]-before.Bytes[topic]) / float64(max(n-before.Ends[topic], 1))
		seen.amounts["bytes a record on "+topic] = amount{size, 1.1, 0}
	}
}

// What one view has alone is a difference, and an amount only beyond chance.
func TestDifferences(t *testing.T) {
	like := func(facts string, n float64) view {
		v := view{facts: map[string]bool{}, amounts: map[string]amount{"lag": {n, 2, 10}}}
		for _, f := range strings.Fields(facts) {
			v.fact("%s", f)
		}
		return v
	}
	for _, c := range []struct {
		name          string
		without, with view
		want          string
	}{
		{"the same", like("a b", 5), like("b a", 5), ""},
		{"chance", like("a", 5), like("a", 20), ""},
		{"more with", like("a", 5), like("a", 21), "+ more: lag"},
		{"more without", like("a", 21), like("a", 5), "- more: lag"},
		{"a fact of each", like("a b", 5), like("a c", 5), "+ c, - b"},
	} {
		if got := strings.Join(differences(c.without, c.with), ", "); got != c.want {
			t.Errorf("%s: differences %q, want %q", c.name, got, c.want)
		}
	}
	first := differences(like("a", 5), like("b c", 5))
	if got := recurring(first, differences(like("a", 5), like("a c", 5))); !slices.Equal(got, []string{"+ c"}) {
		t.Errorf("recurring are %q", got)
	}
}
