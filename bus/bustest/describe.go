package bustest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Described is what real brokers tell a client that may describe everything.
// Text is of what stands; numbers are sums over the partitions of a topic, or
// of a group.
type Described struct {
	Topics       map[string]string // partitions and every setting
	Starts, Ends map[string]int64
	Bytes        map[string]int64          // in the log folders
	Producers    map[string][]int64        // by topic: ids of those that the brokers remember
	Groups       map[string]string         // kind, state, members, their topics, topics with commits
	Lags         map[string]int64          // by group
	Transactions map[string]string         // by transactional id: state, topics that it is open on
	Others       map[string]map[string]any // access lists, quotas, settings of other things, users, ...
}

// Describe asks brokers for all of it, internal topics included.
func Describe(ctx context.Context, seeds []string) (Described, error) {
	c, err := kgo.NewClient(kgo.SeedBrokers(seeds...))
	if err != nil {
		return Described{}, err
	}
	defer c.Close()
	d := describer{Client: kadm.NewClient(c), seen: Described{
		Topics: map[string]string{}, Starts: map[string]int64{}, Ends: map[string]int64{}, Bytes: map[string]int64{},
		Producers: map[string][]int64{}, Groups: map[string]string{}, Lags: map[string]int64{},
		Transactions: map[string]string{}, Others: map[string]map[string]any{},
	}}
	for what, ask := range map[string]func(context.Context) error{
		"groups": d.groups, "transactions": d.transactions, "others": d.others, "brokers": d.brokers,
	} {
		if err := ask(ctx); err != nil {
			return d.seen, fmt.Errorf("describe %s: %w", what, err)
		}
	}
	// Last: the topics that Kafka makes itself when it is asked are there now.
	if err := d.topics(ctx); err != nil {
		return d.seen, fmt.Errorf("describe topics: %w", err)
	}
	return d.seen, nil
}

type describer struct {
	*kadm.Client
	seen Described
}

func (d *describer) topics(ctx context.Context) error {
	topics, err := d.ListTopicsWithInternal(ctx)
	if err != nil {
		return err
	}
	names := topics.Names()
	configs, err := d.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return err
	}
	for _, c := range configs {
		d.seen.Topics[c.Name] = fmt.Sprintf("%d partitions, %s", len(topics[c.Name].Partitions), settingsOf(c))
	}
	starts, err := d.ListStartOffsets(ctx, names...)
	if err != nil {
		return err
	}
	starts.Each(func(o kadm.ListedOffset) { d.seen.Starts[o.Topic] += o.Offset })
	ends, err := d.ListEndOffsets(ctx, names...)
	if err != nil {
		return err
	}
	ends.Each(func(o kadm.ListedOffset) { d.seen.Ends[o.Topic] += o.Offset })
	dirs, err := d.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return err
	}
	dirs.Each(func(dir kadm.DescribedLogDir) {
		dir.Topics.Each(func(p kadm.DescribedLogDirPartition) { d.seen.Bytes[p.Topic] += p.Size })
	})
	producers, err := d.DescribeProducers(ctx, topics.TopicsSet())
	if err != nil {
		return err
	}
	producers.EachProducer(func(p kadm.DescribedProducer) {
		if !slices.Contains(d.seen.Producers[p.Topic], p.ProducerID) {
			d.seen.Producers[p.Topic] = append(d.seen.Producers[p.Topic], p.ProducerID)
		}
	})
	return nil
}

func settingsOf(c kadm.ResourceConfig) string {
	var all []string
	for _, s := range c.Configs {
		all = append(all, fmt.Sprintf("%s=%s (%v)", s.Key, s.MaybeValue(), s.Source))
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func (d *describer) groups(ctx context.Context) error {
	all, err := d.ListGroups(ctx)
	if err != nil {
		return err
	}
	modern, err := d.ListGroupsByType(ctx, []string{"consumer"})
	if err != nil {
		return err
	}
	members, err := d.DescribeConsumerGroups(ctx, modern.Groups()...)
	if err != nil {
		return err
	}
	for _, g := range members.Sorted() {
		var clients []string
		for _, m := range g.Members {
			clients = append(clients, m.ClientID+m.ClientHost)
		}
		d.seen.Groups[g.Group] = fmt.Sprintf("%s, assignor %s, members %q, assigned %v", g.State, g.AssignorName, clients, g.AssignedPartitions().Topics())
	}
	for _, g := range all.Groups() {
		if _, ok := modern[g]; !ok {
			d.seen.Groups[g] = fmt.Sprintf("%s, protocol %s", all[g].State, all[g].ProtocolType)
		}
		if err := d.lag(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

// lag adds what a group has committed.
func (d *describer) lag(ctx context.Context, group string) error {
	commits, err := d.FetchOffsets(ctx, group)
	if err != nil {
		return err
	}
	offsets := commits.Offsets()
	topics := slices.Sorted(maps.Keys(offsets))
	if len(topics) > 0 {
		ends, err := d.ListEndOffsets(ctx, topics...)
		if err != nil {
			return err
		}
		offsets.Each(func(o kadm.Offset) {
			if end, ok := ends.Lookup(o.Topic, o.Partition); ok {
				d.seen.Lags[group] += end.Offset - o.At
			}
		})
	}
	d.seen.Groups[group] += fmt.Sprintf(", commits of %v", topics)
	return nil
}

func (d *describer) transactions(ctx context.Context) error {
	listed, err := d.ListTransactions(ctx, nil, nil)
	if err != nil {
		return err
	}
	all, err := d.DescribeTransactions(ctx, listed.TransactionalIDs()...)
	if err != nil {
		return err
	}
	all.Each(func(t kadm.DescribedTransaction) {
		d.seen.Transactions[t.TxnID] = fmt.Sprintf("%s on %v, within %d ms", t.State, t.Topics.Topics(), t.TimeoutMillis)
	})
	return nil
}

// others are the things that nothing here should have made.
func (d *describer) others(ctx context.Context) error {
	put := func(what, name string, told any) {
		if d.seen.Others[what] == nil {
			d.seen.Others[what] = map[string]any{}
		}
		d.seen.Others[what][name] = told
	}
	acls, err := d.DescribeACLs(ctx, kadm.NewACLs().AnyResource().Allow().AllowHosts().Deny().DenyHosts().
		Operations().ResourcePatternType(kadm.ACLPatternAny))
	if err != nil {
		return err
	}
	for _, a := range acls {
		for _, e := range a.Described {
			put("access lists", fmt.Sprintf("%v %s", e.Type, e.Name), fmt.Sprintf("%v %v %v %v", e.Principal, e.Host, e.Operation, e.Permission))
		}
	}
	quotas, err := d.DescribeClientQuotas(ctx, false, []kadm.DescribeClientQuotaComponent{{Type: "client-id", MatchType: kmsg.QuotasMatchTypeAny}})
	if err != nil {
		return err
	}
	for _, q := range quotas {
		put("quotas", fmt.Sprint(q.Entity), fmt.Sprint(q.Values))
	}
	things, err := d.ListConfigResources(ctx)
	if err != nil {
		return err
	}
	for _, r := range things.Sorted() {
		if r.Type != kadm.ConfigResourceType(kmsg.ConfigResourceTypeTopic) {
			put("settings", fmt.Sprintf("%v %s", r.Type, r.Name), true)
		}
	}
	users, err := d.DescribeUserSCRAMs(ctx)
	if err != nil {
		return err
	}
	for _, u := range users.Sorted() {
		put("users", u.User, u.CredInfos)
	}
	moves, err := d.ListPartitionReassignments(ctx, nil)
	if err != nil {
		return err
	}
	for topic := range moves {
		put("moves", topic, true)
	}
	return nil
}

func (d *describer) brokers(ctx context.Context) error {
	all, err := d.ListBrokers(ctx)
	if err != nil {
		return err
	}
	configs, err := d.DescribeBrokerConfigs(ctx, all.NodeIDs()...)
	if err != nil {
		return err
	}
	told := map[string]any{}
	for _, c := range configs {
		told[c.Name] = settingsOf(c)
	}
	d.seen.Others["brokers"] = told
	return nil
}
