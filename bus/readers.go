package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"qstream/schemas"
)

// ErrNoAuthorizer is a cluster that asks nobody who he is, or guards nothing:
// every client may read every topic.
var ErrNoAuthorizer = errors.New("the brokers have no access lists: every client may read every topic")

// Admit lets the readers that topics name read them, in groups whose names
// begin with Topic.ReaderOf. It takes nothing away. ErrNoAuthorizer says that
// the brokers keep no access lists.
func (b *Bus) Admit(ctx context.Context, topics []schemas.Topic) error {
	admin, err := b.admin()
	if err != nil {
		return err
	}
	for _, t := range topics {
		if t.Reader == "" {
			continue
		}
		for _, acl := range readers(t) {
			results, err := admin.CreateACLs(ctx, acl)
			if err == nil {
				err = firstError(results)
			}
			if errors.Is(err, kerr.SecurityDisabled) {
				return ErrNoAuthorizer
			}
			if err != nil {
				return fmt.Errorf("let %s read %s: %w", t.Reader, t.Name, err)
			}
		}
	}
	return nil
}

func firstError(results kadm.CreateACLsResults) error {
	for _, r := range results {
		if r.Err != nil {
			return r.Err
		}
	}
	return nil
}

// Dismiss takes from a topic's reader what Admit gave. Other entries stay.
func (b *Bus) Dismiss(ctx context.Context, t schemas.Topic) error {
	admin, err := b.admin()
	if err != nil || t.Reader == "" {
		return err
	}
	for _, acl := range readers(t) {
		results, err := admin.DeleteACLs(ctx, acl)
		if err == nil && len(results) > 0 {
			err = results[0].Err
		}
		if errors.Is(err, kerr.SecurityDisabled) {
			return ErrNoAuthorizer
		}
		if err != nil {
			return fmt.Errorf("let %s read %s no longer: %w", t.Reader, t.Name, err)
		}
	}
	return nil
}

// readers are the entries for the reader of a topic: the topic itself, and
// groups of its own.
func readers(t schemas.Topic) []*kadm.ACLBuilder {
	entry := func() *kadm.ACLBuilder {
		return kadm.NewACLs().Allow(t.Reader).AllowHosts().Operations(kadm.OpRead, kadm.OpDescribe)
	}
	all := []*kadm.ACLBuilder{entry().Topics(t.Name).ResourcePatternType(kadm.ACLPatternLiteral)}
	if t.ReaderOf != "" {
		all = append(all, entry().Groups(t.ReaderOf).ResourcePatternType(kadm.ACLPatternPrefixed))
	}
	return all
}
