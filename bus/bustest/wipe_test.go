package bustest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"qstream/bus"
	"qstream/schemas"
	pb "qstream/schemas/qstream/v1"
)

// TestWipe: no topic, record or group is left, and everything can be made anew.
func TestWipe(t *testing.T) {
	broker := Start(t)
	Put(t, broker.Dial(t, bus.Config{}), bus.NewReceived(&pb.Received{Id: "01JD0000000000000000000001"}))
	count := func() (topics, groups int) {
		t.Helper()
		client, err := kgo.NewClient(kgo.SeedBrokers(broker.Seeds...)) // which has cached nothing
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		all, err := kadm.NewClient(client).ListTopics(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		gs, err := kadm.NewClient(client).ListGroups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(all), len(gs)
	}
	if topics, groups := count(); topics == 0 || groups == 0 {
		t.Fatalf("%d topics and %d groups before", topics, groups)
	}
	if err := Wipe(t.Context(), broker.Seeds); err != nil {
		t.Fatal(err)
	}
	if topics, groups := count(); topics > 0 || groups > 0 {
		t.Errorf("%d topics and %d groups are left", topics, groups)
	}
	if err := Wipe(t.Context(), broker.Seeds); err != nil {
		t.Errorf("nothing is there: %v", err)
	}
	broker.create(t, schemas.FixedTopics())
	if rs := Records(t, broker.Dial(t, bus.Config{}), schemas.Received); len(rs) > 0 {
		t.Errorf("%d records are back", len(rs))
	}
}
