package bus

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"qstream/schemas"
)

// Difference is one setting of a topic, group or broker that isn't as asked.
type Difference struct {
	Topic     string // or "group NAME", "broker ID"
	Setting   string
	Want, Got string
	Dangerous bool // a role refuses to start
	Why       string
}

// presence is the setting of a topic that isn't there.
const presence = "topic"

// Missing reports whether the topic isn't there at all.
func (d Difference) Missing() bool { return d.Setting == presence }

// VerifyTopics compares what is with what should be, topics first, in their
// order, then groups, then the brokers. More partitions, longer retention and
// more replicas than asked for are no difference.
func (b *Bus) VerifyTopics(ctx context.Context, topics []schemas.Topic, o CreateOptions) ([]Difference, error) {
	admin, err := b.admin()
	if err != nil {
		return nil, err
	}
	listed, err := b.layouts(ctx)
	if err != nil {
		return nil, err
	}
	var ds []Difference
	var there []schemas.Topic
	for _, t := range topics {
		if listed[t.Name] == nil {
			ds = append(ds, Difference{t.Name, presence, "present", "missing", true, "what belongs there can't be stored or read"})
			continue
		}
		there = append(there, t)
	}
	settings, err := b.verifySettings(ctx, admin, there, listed, o)
	if err != nil {
		return nil, err
	}
	ds = append(ds, settings...)
	own, err := verifyOwn(ctx, admin, listed, o)
	if err != nil {
		return nil, err
	}
	ds = append(ds, own...)
	commits, err := b.verifyCommits(ctx, there)
	if err != nil {
		return nil, err
	}
	ds = append(ds, commits...)
	ds = append(ds, b.verifyGroups(ctx, there)...)
	brokers, err := b.verifyBrokers(ctx, admin, there)
	return append(ds, brokers...), err
}

// reasons say what a wrong setting does to mail.
var reasons = map[string]string{
	"cleanup.policy":                 "records would be removed that are still needed",
	"message.timestamp.type":         "lifetimes would count from the clocks of clients, and a wrong one would expire or delete mail",
	"retention.ms":                   "mail could be deleted before its lifetime ends",
	"retention.bytes":                "a flood would delete mail that waits",
	"min.insync.replicas":            "an acknowledged record could be on one disk only",
	"unclean.leader.election.enable": "a replica without the newest records could become leader: acknowledged mail lost",
	"max.message.bytes":              "large records would be refused",
	"segment.ms":                     "old records would be read at every start",
	"flush.messages":                 "durability is synced: an acknowledged record must be on disk",
}

func (b *Bus) verifySettings(ctx context.Context, admin *kadm.Client, topics []schemas.Topic, listed map[string]*layout, o CreateOptions) ([]Difference, error) {
	if len(topics) == 0 {
		return nil, nil
	}
	names := make([]string, len(topics))
	for i, t := range topics {
		names[i] = t.Name
	}
	all, err := admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("describe topics: %w", err)
	}
	wanted, err := sized(ctx, admin, o)
	if err != nil {
		return nil, err
	}
	var ds []Difference
	for _, t := range topics {
		described, err := all.On(t.Name, nil)
		if err == nil {
			err = described.Err
		}
		if err != nil {
			return nil, fmt.Errorf("describe topic %s: %w", t.Name, err)
		}
		ds = append(ds, verifyPlaces(t, listed[t.Name], wanted)...)
		mine := wanted
		if o.MinISR == 0 {
			mine.MinISR = max(1, listed[t.Name].replicas-1)
		}
		ds = append(ds, compare(t.Name, settings(t, mine), configured(described))...)
	}
	return ds, nil
}

// verifyOwn compares the copies of the topics in which brokers keep groups'
// places and transactions. One that isn't there yet is made at first use.
func verifyOwn(ctx context.Context, admin *kadm.Client, listed map[string]*layout, o CreateOptions) ([]Difference, error) {
	wanted, err := sized(ctx, admin, o)
	if err != nil {
		return nil, err
	}
	var ds []Difference
	for _, name := range []string{"__consumer_offsets", "__transaction_state"} {
		if l := listed[name]; l != nil && l.replicas < wanted.Replication {
			ds = append(ds, Difference{name, "replication", fmt.Sprint(wanted.Replication), fmt.Sprint(l.replicas), false,
				"the loss of one broker would lose the groups' places, and their partitions stand still"})
		}
	}
	return ds, nil
}

// verifyPlaces compares how often and where a topic's records are.
func verifyPlaces(t schemas.Topic, l *layout, o CreateOptions) []Difference {
	var ds []Difference
	n := int32(len(l.leaders))
	switch {
	case t.Partitions == 1 && n != 1:
		ds = append(ds, Difference{t.Name, "partitions", "1", fmt.Sprint(n), true, "its records must have one order"})
	case n < t.Partitions:
		ds = append(ds, Difference{t.Name, "partitions", fmt.Sprint(t.Partitions), fmt.Sprint(n), false, "fewer processes can share its work"})
	}
	if r := l.replicas; r < o.Replication {
		ds = append(ds, Difference{t.Name, "replication", fmt.Sprint(o.Replication), fmt.Sprint(r), false, "fewer disks may be lost before mail is"})
	}
	return ds
}

func configured(r kadm.ResourceConfig) map[string]string {
	m := map[string]string{}
	for _, c := range r.Configs {
		if c.Value != nil {
			m[c.Key] = *c.Value
		}
	}
	return m
}

// compare tells the settings that are worse than wanted, in order of name.
func compare(topic string, want, got map[string]string) []Difference {
	var ds []Difference
	keys := make([]string, 0, len(want))
	for k := range want {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		g, told := got[k]
		switch {
		case !told:
			ds = append(ds, Difference{topic, k, want[k], "", false, "the broker doesn't tell it: " + reasons[k]})
		case !enough(k, want[k], g):
			ds = append(ds, Difference{topic, k, want[k], g, k != "segment.ms", reasons[k]})
		}
	}
	return ds
}

// enough reports whether a setting is as wanted, or better.
func enough(setting, want, got string) bool {
	if want == got {
		return true
	}
	w, err := strconv.ParseInt(want, 10, 64)
	if err != nil {
		return false
	}
	g, err := strconv.ParseInt(got, 10, 64)
	if err != nil {
		return false
	}
	switch setting {
	case "retention.ms":
		return g < 0 || w >= 0 && g >= w
	case "min.insync.replicas", "max.message.bytes":
		return g >= w
	case "segment.ms":
		return g <= w
	}
	return false
}

// verifyCommits tells partitions that a group could not start on.
func (b *Bus) verifyCommits(ctx context.Context, topics []schemas.Topic) ([]Difference, error) {
	states, err := b.commitStates(ctx, topics)
	if err != nil {
		return nil, err
	}
	var ds []Difference
	for _, s := range states {
		if s.problem == "" {
			continue
		}
		ds = append(ds, Difference{
			Topic:   s.topic,
			Setting: fmt.Sprintf("commit of %s on partition %d", s.group, s.partition),
			Want:    fmt.Sprintf("%d to %d", s.oldest, s.newest), Got: s.problem,
			Why: "the partition stands still until: qstream topics resume",
		})
	}
	return ds, nil
}

// verifyGroups tells timeouts of groups that differ. A broker without group
// settings has nothing to compare.
func (b *Bus) verifyGroups(ctx context.Context, topics []schemas.Topic) []Difference {
	c, err := b.client()
	names := groups(topics)
	if err != nil || len(names) == 0 {
		return nil
	}
	req := kmsg.NewPtrDescribeConfigsRequest()
	for _, g := range names {
		res := kmsg.NewDescribeConfigsRequestResource()
		res.ResourceType, res.ResourceName = kmsg.ConfigResourceTypeGroupConfig, g
		req.Resources = append(req.Resources, res)
	}
	resp, err := req.RequestWith(ctx, c)
	if err != nil {
		return nil
	}
	var ds []Difference
	want := b.groupSettings()["consumer.session.timeout.ms"]
	for _, r := range resp.Resources {
		if kerr.ErrorForCode(r.ErrorCode) != nil {
			continue
		}
		for _, s := range r.Configs {
			if s.Name == "consumer.session.timeout.ms" && (s.Value == nil || *s.Value != want) {
				got := "the broker's"
				if s.Value != nil {
					got = *s.Value
				}
				ds = append(ds, Difference{"group " + r.ResourceName, s.Name, want, got, false,
					"a process that is gone keeps its partitions longer; the broker must allow it: group.consumer.min.session.timeout.ms"})
			}
		}
	}
	return ds
}

// verifyBrokers compares what one broker says about itself.
func (b *Bus) verifyBrokers(ctx context.Context, admin *kadm.Client, topics []schemas.Topic) ([]Difference, error) {
	brokers, err := admin.ListBrokers(ctx)
	if err != nil || len(brokers) == 0 {
		return nil, err
	}
	all, err := admin.DescribeBrokerConfigs(ctx, brokers[0].NodeID)
	if err != nil || len(all) == 0 || all[0].Err != nil {
		return nil, nil // a client may not be allowed to ask
	}
	got := configured(all[0])
	name := fmt.Sprintf("broker %d", brokers[0].NodeID)
	var ds []Difference
	if v, err := strconv.ParseInt(got["offsets.retention.minutes"], 10, 64); err == nil {
		var longest time.Duration
		for _, t := range topics {
			if t.Name == schemas.Received || t.Name == schemas.Reinject {
				longest = max(longest, t.Retention)
			}
		}
		if time.Duration(v)*time.Minute <= longest {
			ds = append(ds, Difference{name, "offsets.retention.minutes", fmt.Sprintf("more than %d", int(longest.Minutes())), fmt.Sprint(v), false,
				"a group that is down as long loses its commits before its records: qstream topics resume mends that"})
		}
	}
	if got["auto.create.topics.enable"] == "true" {
		ds = append(ds, Difference{name, "auto.create.topics.enable", "false", "true", false,
			"a topic that another client misspells would be made with settings unfit for mail"})
	}
	return ds, nil
}
