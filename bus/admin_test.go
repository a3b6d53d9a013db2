package bus

import (
	"context"
	"crypto/rand"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"qstream/schemas"
)

func TestCreatedTopicsVerify(t *testing.T) {
	t.Parallel()
	b := newContentBus(t)
	topics := schemas.FixedTopics()
	ds, err := b.VerifyTopics(t.Context(), topics, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range ds {
		if !strings.HasPrefix(d.Topic, "broker ") {
			t.Errorf("%+v", d)
		}
	}
	created, err := b.CreateTopics(t.Context(), topics, CreateOptions{})
	if err != nil || len(created) != 0 {
		t.Fatalf("created again: %v, %v", created, err)
	}
}

func TestVerifyTellsWhatIsDangerous(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	topic := newTopic(t, b, 1)
	admin, err := b.admin()
	if err != nil {
		t.Fatal(err)
	}
	set := func(k, v string) {
		t.Helper()
		if _, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: k, Value: &v}}, topic.Name); err != nil {
			t.Fatal(err)
		}
	}
	set("retention.ms", "1000")
	set("unclean.leader.election.enable", "true")
	set("max.message.bytes", "2000000")
	gone := topic
	gone.Name += ".gone"
	ds, err := b.VerifyTopics(t.Context(), []schemas.Topic{topic, gone}, CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, d := range ds {
		if d.Dangerous {
			found[d.Topic+" "+d.Setting] = true
		}
	}
	want := []string{gone.Name + " topic", topic.Name + " retention.ms", topic.Name + " unclean.leader.election.enable"}
	for _, w := range want {
		if !found[w] {
			t.Errorf("%s isn't told as dangerous", w)
		}
	}
	if len(found) != len(want) {
		t.Errorf("dangerous: %v", found)
	}
}

func TestEnough(t *testing.T) {
	for _, c := range []struct {
		setting, want, got string
		ok                 bool
	}{
		{"retention.ms", "1000", "1000", true},
		{"retention.ms", "1000", "2000", true},
		{"retention.ms", "1000", "-1", true},
		{"retention.ms", "1000", "999", false},
		{"retention.ms", "-1", "99999", false},
		{"retention.bytes", "-1", "5", false},
		{"min.insync.replicas", "1", "2", true},
		{"min.insync.replicas", "2", "1", false},
		{"max.message.bytes", "10", "11", true},
		{"cleanup.policy", "delete", "compact", false},
		{"cleanup.policy", "delete", "compact,delete", false},
		{"unclean.leader.election.enable", "false", "true", false},
		{"retention.ms", "1000", "much", false},
	} {
		if ok := enough(c.setting, c.want, c.got); ok != c.ok {
			t.Errorf("%s: want %s, got %s: %v", c.setting, c.want, c.got, ok)
		}
	}
}

func TestResumeMendsOnlyWhatIsBroken(t *testing.T) {
	t.Parallel()
	b, _ := newTestBus(t)
	topic := newTopic(t, b, 3)
	topics, group := []schemas.Topic{topic}, topic.Groups[0]
	publishN(t, b, topic.Name, 30)
	ends, err := b.Ends(t.Context(), topic.Name)
	if err != nil {
		t.Fatal(err)
	}
	// Partition 0: behind the end; 1: in range.
	broken := offsets{}
	broken.set(topic.Name, 0, ends[0]+100)
	broken.set(topic.Name, 1, 1)
	if err := b.commit(t.Context(), group, broken); err != nil {
		t.Fatal(err)
	}
	mended, err := b.Resume(t.Context(), topics, time.Time{}, true)
	if err != nil || len(mended) != 1 || mended[0].Partition != 0 || mended[0].At != 0 || mended[0].Records != ends[0] {
		t.Fatalf("dry: %+v, %v", mended, err)
	}
	if _, err := b.Resume(t.Context(), topics, time.Now().Add(time.Hour), false); err != nil {
		t.Fatal(err)
	}
	got, err := b.committed(t.Context(), group, map[string][]int32{topic.Name: {0, 1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	if at := got[topic.Name]; at[0] != ends[0] || at[1] != 1 || at[2] != 0 {
		t.Fatalf("commits %v, ends %v", got, ends)
	}
	if mended, err = b.Resume(t.Context(), topics, time.Time{}, false); err != nil || len(mended) != 0 {
		t.Fatalf("again: %+v, %v", mended, err)
	}
}

// A queue is made while its group works: the commit must get through.
func TestCommitReachesAGroupWithMembers(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]kgo.Opt{
		"classic": {kgo.Balancers(kgo.CooperativeStickyBalancer())},
		"848":     {kgo.ServerSideBalancer()},
	} {
		t.Run(name, func(t *testing.T) {
			b, _ := newTestBus(t)
			first, second := newTopic(t, b, 1), newTopic(t, b, 1).Name
			group := first.Groups[0]
			member, err := kgo.NewClient(b.clientOpts(append(opts, kgo.ConsumerGroup(group), kgo.ConsumeTopics(first.Name))...)...)
			if err != nil {
				t.Fatal(err)
			}
			defer member.Close()
			publishN(t, b, first.Name, 1)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if member.PollFetches(ctx).NumRecords() == 0 {
				t.Fatal("the member consumes nothing")
			}
			at := offsets{}
			at.set(second, 0, 0)
			if err := b.commit(t.Context(), group, at); err != nil {
				t.Fatal(err)
			}
			got, err := b.committed(t.Context(), group, map[string][]int32{second: {0}})
			if err != nil || len(got[second]) != 1 {
				t.Fatalf("commits %v, %v", got, err)
			}
		})
	}
}

// A broker that is asked just after a topic was made may not have heard of it.
func TestCreateTopicsWaitsUntilEveryBrokerKnows(t *testing.T) {
	t.Parallel()
	c, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b, err := Dial(Config{Seeds: c.ListenAddrs()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	name := "test." + rand.Text()
	var unheard atomic.Int64
	unheard.Store(3)
	c.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		asked := req.(*kmsg.MetadataRequest)
		if c.CurrentNode() != 2 || len(asked.Topics) == 0 || unheard.Add(-1) < 0 {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, t := range asked.Topics {
			no := kmsg.NewMetadataResponseTopic()
			no.Topic, no.ErrorCode = t.Topic, kerr.UnknownTopicOrPartition.Code
			resp.Topics = append(resp.Topics, no)
		}
		return resp, nil, true
	})
	if _, err := b.CreateTopics(t.Context(), []schemas.Topic{{Name: name, Partitions: 2, MaxMessage: 1 << 20}}, CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if left := unheard.Load(); left >= 0 {
		t.Errorf("the broker would say %d times more that there is no such topic", left+1)
	}
}
