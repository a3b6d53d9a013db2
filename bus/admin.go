package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"qstream/schemas"
)

// CreateOptions are the cluster's side of topic creation.
type CreateOptions struct {
	Replication int  // default: 3, or the number of brokers if fewer
	MinISR      int  // default: replication-1, at least 1
	Synced      bool // durability: synced (flush.messages=1)
}

// CreateTopics makes the topics that are missing, with explicit settings, waits
// until every broker that answers knows all of them, and commits offset 0 for
// each group of a topic that is new or still empty. It lets readers read what is
// theirs (Admit). It asks for the session
// timeout of the groups, which a broker may refuse; VerifyTopics tells. It
// changes nothing else that exists.
func (b *Bus) CreateTopics(ctx context.Context, topics []schemas.Topic, o CreateOptions) (created []string, err error) {
	if len(topics) == 0 {
		return nil, nil
	}
	admin, err := b.admin()
	if err != nil {
		return nil, err
	}
	if o, err = sized(ctx, admin, o); err != nil {
		return nil, err
	}
	there, err := b.layouts(ctx)
	if err != nil {
		return nil, err
	}
	var missing []schemas.Topic
	for _, t := range topics {
		if there[t.Name] == nil {
			missing = append(missing, t)
		}
	}
	if created, err = b.create(ctx, missing, o); err != nil {
		return created, err
	}
	var names []string
	for _, t := range topics {
		names = append(names, t.Name)
	}
	if err := b.awaitTopics(ctx, names); err != nil {
		return created, err
	}
	if err := b.settle(ctx, topics); err != nil {
		return created, err
	}
	switch err := b.Admit(ctx, topics); {
	case errors.Is(err, ErrNoAuthorizer):
		b.log.Warn("readers of tenants' events can't be told apart by the brokers", "err", err)
	case err != nil:
		return created, err
	}
	if err := b.tuneGroups(ctx, topics); err != nil {
		b.log.Warn("broker refuses the groups' session timeout: takeovers take longer", "err", err)
	}
	return created, b.barrier(ctx)
}

// sized fills in the defaults for a cluster of this size.
func sized(ctx context.Context, admin *kadm.Client, o CreateOptions) (CreateOptions, error) {
	if o.Replication == 0 {
		brokers, err := admin.ListBrokers(ctx)
		if err != nil {
			return o, fmt.Errorf("list brokers: %w", err)
		}
		o.Replication = max(1, min(3, len(brokers)))
	}
	if o.MinISR == 0 {
		o.MinISR = max(1, o.Replication-1)
	}
	return o, nil
}

// settings are a topic's explicit settings: nothing is left to a broker's
// defaults.
func settings(t schemas.Topic, o CreateOptions) map[string]string {
	retention := "-1"
	if t.Retention >= 0 {
		retention = strconv.FormatInt(t.Retention.Milliseconds(), 10)
	}
	m := map[string]string{
		"cleanup.policy":                 "delete",
		"message.timestamp.type":         "LogAppendTime",
		"retention.ms":                   retention,
		"retention.bytes":                "-1",
		"min.insync.replicas":            strconv.Itoa(o.MinISR),
		"unclean.leader.election.enable": "false",
		"max.message.bytes":              strconv.Itoa(t.MaxMessage),
	}
	if t.Compact {
		m["cleanup.policy"] = "compact"
		if t.Retention >= 0 {
			m["cleanup.policy"] = "compact,delete"
		}
	}
	if t.Roll > 0 {
		m["segment.ms"] = strconv.FormatInt(t.Roll.Milliseconds(), 10)
	}
	if o.Synced {
		m["flush.messages"] = "1"
	}
	return m
}

func (b *Bus) create(ctx context.Context, topics []schemas.Topic, o CreateOptions) (created []string, err error) {
	if len(topics) == 0 {
		return nil, nil
	}
	c, err := b.client()
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 30_000
	for _, t := range topics {
		topic := kmsg.NewCreateTopicsRequestTopic()
		topic.Topic, topic.NumPartitions, topic.ReplicationFactor = t.Name, t.Partitions, int16(o.Replication)
		for k, v := range settings(t, o) {
			setting := kmsg.NewCreateTopicsRequestTopicConfig()
			setting.Name, setting.Value = k, kmsg.StringPtr(v)
			topic.Configs = append(topic.Configs, setting)
		}
		req.Topics = append(req.Topics, topic)
	}
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("create topics: %w", err)
	}
	for _, t := range resp.Topics {
		switch err := kerr.ErrorForCode(t.ErrorCode); {
		case err == nil:
			created = append(created, t.Topic)
		case errors.Is(err, kerr.TopicAlreadyExists): // another process was faster
		default:
			text := ""
			if t.ErrorMessage != nil {
				text = ": " + *t.ErrorMessage
			}
			return created, fmt.Errorf("create topic %s: %w%s", t.Topic, err, text)
		}
	}
	return created, nil
}

// settle commits offset 0 where a group has no commit and nothing can have
// been consumed: its partition starts at 0 and is empty. A commit that is
// missing elsewhere was lost, and to start at 0 would repeat everything.
func (b *Bus) settle(ctx context.Context, topics []schemas.Topic) error {
	names := map[string][]string{} // group -> topics
	for _, t := range topics {
		for _, g := range t.Groups {
			names[g] = append(names[g], t.Name)
		}
	}
	for group, topics := range names {
		parts, err := b.partitions(ctx, topics)
		if err != nil {
			return err
		}
		have, err := b.committed(ctx, group, parts)
		if err != nil {
			return err
		}
		without := missing(parts, have)
		ends, err := b.listOffsetsAs(ctx, newest, uncommitted, without)
		if err != nil {
			return err
		}
		zero := offsets{}
		for t, ps := range ends {
			for p, end := range ps {
				if end == 0 {
					zero.set(t, p, 0)
				}
			}
		}
		if err := b.commit(ctx, group, zero); err != nil {
			return err
		}
	}
	return nil
}

// groupSettings are what the groups ask of a broker, so that a process that
// is gone is replaced within seconds; heartbeats are a quarter of the session,
// since a worker's lease is a heartbeat's age.
func (b *Bus) groupSettings() map[string]string {
	return map[string]string{
		"consumer.session.timeout.ms":    strconv.FormatInt(b.cfg.Session.Milliseconds(), 10),
		"consumer.heartbeat.interval.ms": strconv.FormatInt(min(b.cfg.Session/4, 5*time.Second).Milliseconds(), 10),
	}
}

// tuneGroups sets each group's own session timeout (KIP-848).
func (b *Bus) tuneGroups(ctx context.Context, topics []schemas.Topic) error {
	c, err := b.client()
	if err != nil {
		return err
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	for _, group := range groups(topics) {
		res := kmsg.NewIncrementalAlterConfigsRequestResource()
		res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
		for k, v := range b.groupSettings() {
			setting := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			setting.Name, setting.Value = k, kmsg.StringPtr(v)
			res.Configs = append(res.Configs, setting)
		}
		req.Resources = append(req.Resources, res)
	}
	if len(req.Resources) == 0 {
		return nil
	}
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return fmt.Errorf("set group timeouts: %w", err)
	}
	for _, r := range resp.Resources {
		if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
			text := ""
			if r.ErrorMessage != nil {
				text = ": " + *r.ErrorMessage
			}
			return fmt.Errorf("set timeouts of group %s: %w%s", r.ResourceName, err, text)
		}
	}
	return nil
}

// groups are the groups of topics, without repetition.
func groups(topics []schemas.Topic) []string {
	var all []string
	for _, t := range topics {
		all = append(all, t.Groups...)
	}
	return sorted(all)
}
