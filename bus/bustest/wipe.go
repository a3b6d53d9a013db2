package bustest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Wipe deletes every topic and every group of a cluster that nobody uses any
// more, so that it is as good as new. A group whose members were killed goes
// when they are given up: until then it waits.
func Wipe(ctx context.Context, seeds []string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	if len(topics) > 0 {
		deleted, err := admin.DeleteTopics(ctx, topics.Names()...)
		if err == nil {
			err = deleted.Error()
		}
		if err != nil {
			return fmt.Errorf("delete topics: %w", err)
		}
	}
	for {
		left, err := wipeGroups(ctx, admin)
		switch {
		case err != nil:
			return err
		case left == 0:
			return nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%d groups are left: %w", left, ctx.Err())
		}
	}
}

// wipeGroups deletes the groups without members and counts the others.
func wipeGroups(ctx context.Context, admin *kadm.Client) (left int, err error) {
	groups, err := admin.ListGroups(ctx)
	if err != nil {
		return 0, fmt.Errorf("list groups: %w", err)
	}
	if len(groups) == 0 {
		return 0, nil
	}
	deleted, err := admin.DeleteGroups(ctx, groups.Groups()...)
	if err != nil {
		return 0, fmt.Errorf("delete groups: %w", err)
	}
	for _, g := range deleted {
		switch {
		case errors.Is(g.Err, kerr.NonEmptyGroup):
			left++
		case g.Err != nil && !errors.Is(g.Err, kerr.GroupIDNotFound):
			return 0, fmt.Errorf("delete group %s: %w", g.Group, g.Err)
		}
	}
	return left, nil
}
