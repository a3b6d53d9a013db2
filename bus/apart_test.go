package bus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// What is read apart changes no metric, and nothing counts as read.
func TestApartShowsNowhere(t *testing.T) {
	t.Parallel()
	registry, spent := prometheus.NewRegistry(), 0
	b := bustest.Start(t).Dial(t, bus.Config{Registerer: registry, Spent: func(string, int32, []int64) { spent++ }})
	r := bus.NewReceived(&pb.Received{Id: "01JD0000000000000000000001"})
	if err := b.Publish(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
	// The client counts what it has sent when it comes to it.
	before := series(t, registry)
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
		time.Sleep(50 * time.Millisecond)
		now := series(t, registry)
		if now == before && strings.Contains(now, "qstream_kafka_produce_bytes_total") {
			break
		}
		before = now
	}
	apart, err := b.Apart()
	if err != nil {
		t.Fatal(err)
	}
	defer apart.Close()
	if got := bustest.Records(t, apart, schemas.Received); len(got) != 1 {
		t.Fatalf("%d records are read apart", len(got))
	}
	if after := series(t, registry); after != before || spent != 0 {
		t.Errorf("metrics before\n%s\nafter\n%s\n%d times read", before, after, spent)
	}
}

func series(t *testing.T, r *prometheus.Registry) (text string) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		text += f.String() + "\n"
	}
	return text
}
