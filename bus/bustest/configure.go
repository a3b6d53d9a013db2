package bustest

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Configure changes settings of a topic on a running cluster, as an operator
// could behind qstream's back.
func Configure(ctx context.Context, seeds []string, topic string, settings map[string]string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	if err != nil {
		return err
	}
	defer client.Close()
	var changes []kadm.AlterConfig
	for name, value := range settings {
		changes = append(changes, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
	}
	answers, err := kadm.NewClient(client).AlterTopicConfigs(ctx, changes, topic)
	if err != nil {
		return fmt.Errorf("configure %s: %w", topic, err)
	}
	for _, a := range answers {
		if a.Err != nil {
			return fmt.Errorf("configure %s: %w", topic, a.Err)
		}
	}
	return nil
}
