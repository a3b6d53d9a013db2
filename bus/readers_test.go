package bus

import (
	"errors"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"qstream/schemas"
)

// TestReaders: on brokers with access lists a tenant reads its own topic, in
// groups of its own, and nothing else; dismissed, not even that.
func TestReaders(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs(),
		kfake.Superuser("PLAIN", "qstream", "s"), kfake.User("PLAIN", "acme", "a"), kfake.User("PLAIN", "beta", "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b, err := Dial(Config{Seeds: c.ListenAddrs(), SASL: SASL{Mechanism: "PLAIN", User: "qstream", Password: "s"}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	acme := schemas.Sizing{Partitions: 1}.TenantEvents("acme", 0)[0]
	acme.Reader, acme.ReaderOf = "User:acme", "acme."
	beta := schemas.Sizing{Partitions: 1}.TenantEvents("beta", 0)[0]
	beta.Reader, beta.ReaderOf = "User:beta", "beta."
	if _, err := b.CreateTopics(t.Context(), []schemas.Topic{acme, beta}, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{acme.Name, beta.Name} {
		if err := b.Publish(t.Context(), &Record{Topic: topic, Partition: 0, Value: []byte(topic)}); err != nil {
			t.Fatal(err)
		}
	}
	reads := func(user, password, topic string) bool {
		t.Helper()
		client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.SASL(plain.Auth{User: user, Pass: password}.AsMechanism()),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		f := client.PollFetches(t.Context())
		return f.Err() == nil && f.NumRecords() == 1
	}
	for _, tt := range []struct {
		user, password, topic string
		want                  bool
	}{
		{"acme", "a", acme.Name, true}, {"acme", "a", beta.Name, false}, {"beta", "b", beta.Name, true}, {"beta", "b", acme.Name, false},
	} {
		if got := reads(tt.user, tt.password, tt.topic); got != tt.want {
			t.Errorf("%s reads %s: %v", tt.user, tt.topic, got)
		}
	}
	if err := b.Dismiss(t.Context(), acme); err != nil {
		t.Fatal(err)
	}
	if reads("acme", "a", acme.Name) {
		t.Error("acme reads after it was dismissed")
	}
	if !reads("beta", "b", beta.Name) {
		t.Error("beta reads no more")
	}
}

// TestNoAuthorizer: brokers without access lists are told apart from failures.
func TestNoAuthorizer(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	topic := schemas.Sizing{}.TenantEvents("acme", 0)[0]
	topic.Reader = "User:acme"
	if err := b.Admit(t.Context(), []schemas.Topic{topic}); err != nil && !errors.Is(err, ErrNoAuthorizer) {
		t.Errorf("%v", err)
	}
	if _, err := b.CreateTopics(t.Context(), []schemas.Topic{topic}, CreateOptions{}); err != nil {
		t.Errorf("the topic wasn't made: %v", err)
	}
}
