package bustest

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
)

// User signs in to brokers by SASL PLAIN.
type User struct{ Name, Password string }

func (u User) client(seeds []string, more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append(more, kgo.SeedBrokers(seeds...), kgo.SASL(plain.Auth{User: u.Name, Pass: u.Password}.AsMechanism()))...)
}

// Grant gives a user, by another who may, the rights that qstream needs: all on
// topics, groups and transactional ids whose names begin with prefix, and on
// the cluster ALTER, DESCRIBE and DESCRIBE_CONFIGS.
func Grant(ctx context.Context, seeds []string, by User, to, prefix string) error {
	client, err := by.client(seeds)
	if err != nil {
		return err
	}
	defer client.Close()
	allow := func() *kadm.ACLBuilder { return kadm.NewACLs().Allow("User:" + to).AllowHosts() }
	for _, acl := range []*kadm.ACLBuilder{
		allow().Topics(prefix).Groups(prefix).TransactionalIDs(prefix).
			Operations(kadm.OpAll).ResourcePatternType(kadm.ACLPatternPrefixed),
		allow().Clusters().Operations(kadm.OpAlter, kadm.OpDescribe, kadm.OpDescribeConfigs).ResourcePatternType(kadm.ACLPatternLiteral),
	} {
		results, err := kadm.NewClient(client).CreateACLs(ctx, acl)
		if err != nil {
			return fmt.Errorf("grant to %s: %w", to, err)
		}
		for _, r := range results {
			if r.Err != nil {
				return fmt.Errorf("grant to %s: %w", to, r.Err)
			}
		}
	}
	return nil
}

// ErrRefused is what brokers answer to who may not.
var ErrRefused = errors.New("refused by an access list")

// Consume reads the first record of a topic as a program outside does, within a
// consumer group.
func Consume(ctx context.Context, seeds []string, as User, group, topic string) (value []byte, err error) {
	client, err := as.client(seeds, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, refusal(err)
		}
		if records := fetches.Records(); len(records) > 0 {
			return records[0].Value, refusal(client.CommitRecords(ctx, records...))
		}
	}
}

// Produce writes a record as a program outside does.
func Produce(ctx context.Context, seeds []string, as User, topic string) error {
	client, err := as.client(seeds)
	if err != nil {
		return err
	}
	defer client.Close()
	return refusal(client.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("forged")}).FirstErr())
}

func refusal(err error) error {
	for _, code := range []error{kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed} {
		if errors.Is(err, code) {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	return err
}
