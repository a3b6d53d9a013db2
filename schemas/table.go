package schemas

import (
	"strings"
	"time"
)

const day = 24 * time.Hour

// Forever is the retention of what is never deleted by age.
const Forever time.Duration = -1

// Retentions that don't depend on how long mail may wait.
const (
	long          = 400 * day
	eventsKept    = 30 * day
	journalKept   = 7 * day
	greylistKept  = 62 * day
	answersKept   = 2 * day          // twice what an idempotency key holds for
	defaultMail   = 7 * day          // lifetime 5 d, bounce lifetime 1 d, 1 d to spare
	usageKept     = 3 * time.Hour    // an hour counts
	usageRolled   = 15 * time.Minute // who starts reads an hour back: what is compacted by then is less
	legsBeyond    = 30 * day
	rescanKept    = day
	defaultNumber = 3
)

// Message sizes. A chunk and an envelope of 1,000 recipients fit the default;
// the directory may be one record, a dead record wraps another.
const (
	plainMessage     = 1 << 20
	deadMessage      = 4 << 20
	directoryMessage = 8 << 20
)

// Topic is a row of the topic table.
type Topic struct {
	Name       string
	Key        string // what the key is, for people
	Value      string // full protobuf name of the value
	Partitions int32
	Compact    bool          // by key, and deleted by age as well; else by age alone
	Retention  time.Duration // Forever: -1
	Roll       time.Duration // how long a segment is written, before compaction and deletion can reach it; 0: the broker's choice
	MaxMessage int           // bytes
	Groups     []string      // groups that consume it from a commit
	Private    bool          // not meant for readers
	Reader     string        // principal that may read it, beside qstream's own; empty: nobody
	ReaderOf   string        // start of the names of the groups that the reader may have
}

// Sizing is what an installation may choose about its topics. Zero values
// take the defaults.
type Sizing struct {
	// Mail is how long messages are kept: the longest lifetime, the longest
	// bounce lifetime and a day. Default 7 d.
	Mail time.Duration
	// Partitions of the topics that all mail passes. Default 3.
	Partitions int32
}

// Retention is how long messages must be kept for these lifetimes.
func Retention(lifetime, bounceLifetime time.Duration) time.Duration {
	return lifetime + bounceLifetime + day
}

// FixedTopics are the topics that every installation has, in default sizes.
func FixedTopics() []Topic { return Sizing{}.Fixed() }

// QueueTopics are the topics of one queue in default sizes, consumed by the
// workers of a pool.
func QueueTopics(name string, generation uint32, pool string, partitions int32) []Topic {
	return Sizing{}.Queue(name, generation, pool, partitions)
}

// ScanTopics are the topics of a queue whose mail is scanned, beside its own,
// in default sizes.
func ScanTopics(name string, generation uint32, pool string, partitions int32) []Topic {
	return Sizing{}.Scan(name, generation, pool, partitions)
}

// ContentTopics are the topics of a retention class in default sizes.
func ContentTopics(class string) []Topic { return Sizing{}.Content(class) }

func (s Sizing) mail() time.Duration {
	if s.Mail > 0 {
		return s.Mail
	}
	return defaultMail
}

func (s Sizing) partitions() int32 {
	if s.Partitions > 0 {
		return s.Partitions
	}
	return defaultNumber
}

// legs outlive any lifetime by far: they are small, and a worker that was
// down for weeks must find them.
func (s Sizing) legs() time.Duration { return s.mail() + legsBeyond }

// Fixed are the topics that every installation has.
func (s Sizing) Fixed() []Topic {
	n := s.partitions()
	topics := []Topic{
		{Name: Received, Key: "message id", Value: "Received", Partitions: n, Retention: s.mail(), Groups: []string{RouterGroup, ArchiveGroup}},
		{Name: Reinject, Key: "message id", Value: "Reinject", Partitions: n, Retention: s.mail(), Groups: []string{RouterGroup, ArchiveGroup}},
		{Name: Parked, Key: "tenant and destination", Value: "Leg", Partitions: n, Retention: long, Groups: []string{DelayGroup}},
		{Name: Quarantine, Key: "message id", Value: "Leg", Partitions: n, Retention: long, Groups: []string{DelayGroup}},
		{Name: Rescan, Key: "message id", Value: "Rescan", Partitions: n, Retention: rescanKept, Groups: []string{RescanGroup}},
		{Name: Hold, Key: "message id", Value: "Chunk", Partitions: n, Retention: long},
		{Name: Journal, Key: "queue topic and partition", Value: "Journaled", Partitions: n, Retention: journalKept, Private: true},
		{Name: Events, Key: "message id", Value: "Event", Partitions: n, Retention: eventsKept},
		{Name: Directory, Key: "-", Value: "Apply", Partitions: 1, Retention: Forever, MaxMessage: directoryMessage},
		{Name: Control, Key: "-", Value: "Command", Partitions: 1, Retention: Forever},
		{Name: Audit, Key: "actor", Value: "Act", Partitions: 1, Retention: long},
		{Name: Checkpoint, Key: "-", Value: "Checkpoint", Partitions: 1, Retention: long},
		{Name: Greylist, Key: "hash of the triple", Value: "Greylisted", Partitions: n, Retention: greylistKept, Compact: true},
		{Name: Idempotency, Key: "hash of the scope and key", Value: "Submission", Partitions: 1, Retention: answersKept, Compact: true},
		{Name: Usage, Key: "scope, writer and minute", Value: "Usage", Partitions: 1, Retention: usageKept, Compact: true, Roll: usageRolled},
		{Name: Archives, Key: "archive, partition and offset", Value: "ArchiveState", Partitions: 1, Retention: long, Compact: true},
		{Name: Webhook, Key: "webhook", Value: "WebhookRecord", Partitions: 1, Retention: eventsKept},
		{Name: Deadletter, Key: "origin", Value: "DeadletterRecord", Partitions: 1, Retention: Forever, MaxMessage: deadMessage},
	}
	for _, delay := range DelayTopics() {
		topics = append(topics, Topic{
			Name: delay, Key: "tenant and destination", Value: "Leg",
			Partitions: n, Retention: s.legs(), Groups: []string{DelayGroup},
		})
	}
	topics = append(topics, vaultTopics()...)
	return complete(append(topics, s.Content(DefaultClass)...))
}

// vaultTopics are the same whether there is a vault or not.
func vaultTopics() []Topic {
	sealed := func(name string) Topic {
		return Topic{Name: name, Key: "-", Value: "Sealed", Partitions: 1, Retention: long, Private: true}
	}
	topics := []Topic{sealed(VaultOrders), sealed(VaultAudit)}
	for n := range VaultLanes {
		topics = append(topics, sealed(VaultLane(n)))
	}
	return topics
}

// Content are the topics of a retention class.
func (s Sizing) Content(class string) []Topic {
	return complete([]Topic{{
		Name: Content(class), Key: "message id", Value: "Chunk",
		Partitions: s.partitions(), Retention: s.mail(),
	}})
}

// Queue are the topics of one queue, consumed by the workers of a pool;
// partitions 0 is 3.
func (s Sizing) Queue(name string, generation uint32, pool string, partitions int32) []Topic {
	if partitions <= 0 {
		partitions = defaultNumber
	}
	return complete([]Topic{{
		Name: Queue(name, generation), Key: "destination", Value: "Leg",
		Partitions: partitions, Retention: s.legs(), Groups: []string{DeliverGroup(pool)},
	}})
}

// Scan are the topics of a queue whose mail is scanned, beside its own,
// consumed by the scanners of a pool; partitions 0 is 3.
func (s Sizing) Scan(name string, generation uint32, pool string, partitions int32) []Topic {
	t := s.Queue(name, generation, pool, partitions)[0]
	t.Name, t.Groups = Scan(name, generation), []string{ScannerGroup(pool)}
	return []Topic{t}
}

// Tap are the topics of an archive; partitions 0 is 3, retention 0 the archive
// keeps what its sink hasn't taken as long as legs are kept.
func (s Sizing) Tap(archive string, partitions int32, retention time.Duration) []Topic {
	if partitions <= 0 {
		partitions = defaultNumber
	}
	if retention == 0 {
		retention = s.legs()
	}
	return complete([]Topic{{
		Name: Tap(archive), Key: "message id", Value: "Tapped",
		Partitions: partitions, Retention: retention, Groups: []string{SinkGroup(archive)},
	}})
}

// TapTopics are the topics of an archive in default sizes.
func TapTopics(archive string) []Topic { return Sizing{}.Tap(archive, 0, 0) }

// TenantEvents are the topics of a tenant's own events; retention 0 is that of
// events.
func (s Sizing) TenantEvents(tenant string, retention time.Duration) []Topic {
	if retention == 0 {
		retention = eventsKept
	}
	return complete([]Topic{{
		Name: TenantEvents(tenant), Key: "message id", Value: "Event", Partitions: s.partitions(), Retention: retention,
	}})
}

func complete(topics []Topic) []Topic {
	for i, t := range topics {
		if len(t.Value) > 0 && t.Value[0] != 'q' {
			topics[i].Value = "qstream.v1." + t.Value
		}
		if t.MaxMessage == 0 {
			topics[i].MaxMessage = plainMessage
		}
	}
	return topics
}

// ByName is the row of a topic, in default sizes, and whether qstream has
// such a topic.
func ByName(topic string) (Topic, bool) { return Sizing{}.ByName(topic) }

// ByName is the row of a topic; a queue's pool and partitions are defaults,
// since its name doesn't tell them.
func (s Sizing) ByName(topic string) (Topic, bool) {
	for _, t := range s.Fixed() {
		if t.Name == topic {
			return t, true
		}
	}
	if class, ok := between(topic, "qstream.content.", ".v1"); ok {
		return s.Content(class)[0], true
	}
	if _, ok := between(topic, "qstream.queue.", ".v1"); ok {
		t := s.Queue("", 1, DefaultPool, 0)[0]
		t.Name = topic
		return t, true
	}
	if _, ok := between(topic, "qstream.scan.", ".v1"); ok {
		t := s.Scan("", 1, DefaultPool, 0)[0]
		t.Name = topic
		return t, true
	}
	if archive, ok := between(topic, "qstream.tap.", ".v1"); ok {
		return s.Tap(archive, 0, 0)[0], true
	}
	if tenant, ok := between(topic, "qstream.events.", ".v1"); ok {
		return s.TenantEvents(tenant, 0)[0], true
	}
	return Topic{}, false
}

func between(s, before, after string) (string, bool) {
	s, ok := strings.CutPrefix(s, before)
	if !ok {
		return "", false
	}
	s, ok = strings.CutSuffix(s, after)
	return s, ok && s != ""
}

// MaxMessage is the largest record of a topic, in bytes.
func MaxMessage(topic string) int {
	switch topic {
	case Directory:
		return directoryMessage
	case Deadletter:
		return deadMessage
	}
	return plainMessage
}
