package bus

import "testing"

// A transaction whose topic the client learns only now holds. On a busy
// machine the client took about one of a hundred for empty: it aborted it, and
// reported success. Each round is a client of its own.
func TestFirstTransactionToATopicHolds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := r.bus()
	out := r.topic("", "out", 1)
	const rounds = 50
	for i := range rounds {
		rs := []Record{{Topic: out, Partition: 0, Value: []byte{byte(i)}}}
		if err := b.atomically(t.Context(), rs); err != nil {
			t.Fatal(err)
		}
	}
	r.wantOnce(b, out, rounds)
}
