package webhook

import (
	"fmt"
	"strings"
	"testing"

	pb "qstream/schemas/qstream/v1"
)

// TestBodies: each place has its own message, whoever asks first, and what is
// kept is bounded by count and by octets.
func TestBodies(t *testing.T) {
	for name, size := range map[string]int{"many": 10, "large": 100_000} {
		t.Run(name, func(t *testing.T) {
			b := newBodies()
			for i := range 3 * maxBodiesHeld / (1 + size/1000) {
				at := place{"t", int32(i % 3), int64(i)}
				e := &pb.Event{Id: fmt.Sprint(i), MessageId: strings.Repeat("x", size)}
				wantID, want, err := message(e)
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					if id, body, err := b.message(at, e); err != nil || id != wantID || string(body) != string(want) {
						t.Fatalf("%s %.100s (%v), want %s %.100s", id, body, err, wantID, want)
					}
				}
				if len(b.kept) != len(b.order) || len(b.kept) > maxBodiesHeld || b.octets > maxBodies {
					t.Fatalf("%d kept, %d in order, %d octets", len(b.kept), len(b.order), b.octets)
				}
			}
			sum := 0
			for _, w := range b.kept {
				sum += len(w.body)
			}
			if sum != b.octets || sum == 0 {
				t.Errorf("%d octets counted, %d kept", b.octets, sum)
			}
		})
	}
	// A place is told as it was written first.
	b := newBodies()
	first, _, err := b.message(place{offset: 1}, &pb.Event{Id: "a"})
	again, _, err2 := b.message(place{offset: 1}, &pb.Event{Id: "b"})
	if err != nil || err2 != nil || first != "a" || again != first {
		t.Errorf("%s, %s", first, again)
	}
}
