// Package schemas says what travels on the bus: the topics, their keys,
// values and settings, one row each, and the delay tiers.
package schemas

import (
	"fmt"
	"time"
)

// Names of the topics that do not depend on the directory.
const (
	Received   = "qstream.received.v1"
	Reinject   = "qstream.reinject.v1"
	Parked     = "qstream.parked.v1"
	Hold       = "qstream.hold.v1"
	Journal    = "qstream.journal.v1"
	Events     = "qstream.events.v1"
	Directory  = "qstream.directory.v1"
	Control    = "qstream.control.v1"
	Quarantine = "qstream.quarantine.v1"
	Rescan     = "qstream.rescan.v1"
	Deadletter = "qstream.deadletter.v1"
	Greylist   = "qstream.greylist.v1"
	Audit      = "qstream.audit.v1"
	// Idempotency has one partition: the order of its records decides.
	Idempotency = "qstream.idempotency.v1"
	Usage       = "qstream.usage.v1"
	// Checkpoint has one partition: each follows the one before.
	Checkpoint = "qstream.checkpoint.v1"
	// Archives tells how the sinks of archives do.
	Archives = "qstream.archives.v1"
	// Webhook has one partition: what ends an undelivered event stands behind
	// it.
	Webhook = "qstream.webhook.v1"
	// The vault's topics; see also VaultLane.
	VaultOrders = "qstream.vault.orders.v1"
	VaultAudit  = "qstream.vault.audit.v1"
)

// VaultLanes is how many topics the vault's copies are on.
const VaultLanes = 16

// VaultLane is the topic of one of the vault's lanes.
func VaultLane(n int) string { return fmt.Sprintf("qstream.vault.%02d.v1", n) }

// DefaultClass is the retention class of content whose queue names none.
const DefaultClass = "default"

// Groups of the stages. Scanner and deliver have one for each pool.
const (
	RouterGroup = "qstream.router"
	DelayGroup  = "qstream.delay"
	RescanGroup = "qstream.rescan"
	// ArchiveGroup copies messages to the tap topics of archives.
	ArchiveGroup = "qstream.archive"
)

// DefaultPool is the pool of queues that name none.
const DefaultPool = "default"

// DeliverGroup is the consumer group of a pool's deliver workers.
func DeliverGroup(pool string) string { return "qstream.deliver." + pool }

// ScannerGroup is the consumer group of the scanners of a pool's queues.
func ScannerGroup(pool string) string { return "qstream.scanner." + pool }

// SinkGroup is the consumer group that hands an archive's copies to its sink.
func SinkGroup(archive string) string { return ArchiveGroup + "." + archive }

// Tap is the topic of an archive's copies.
func Tap(archive string) string { return "qstream.tap." + archive + ".v1" }

// TenantsGroup is the consumer group that makes tenants' events.
const TenantsGroup = "qstream.tenants"

// WebhookGroup is the consumer group of a webhook since it came to be, or was
// rewound: each has a position of its own.
func WebhookGroup(name string, since time.Time) string {
	return fmt.Sprintf("qstream.webhook.%s.%d", name, since.UnixMilli())
}

// TenantEvents is the topic of a tenant's own events.
func TenantEvents(tenant string) string { return "qstream.events." + tenant + ".v1" }

// HoldClass is the class of content that may outlive its own: it is kept on
// the hold topic, longest.
const HoldClass = "hold"

// Content is the topic of a retention class.
func Content(class string) string {
	if class == HoldClass {
		return Hold
	}
	return "qstream.content." + class + ".v1"
}

// Queue is the topic of a queue's legs. The first generation of a name has no
// number: "acme", then "acme.2".
func Queue(name string, generation uint32) string {
	return "qstream.queue." + generational(name, generation) + ".v1"
}

// Scan is the topic of legs that wait for their verdict.
func Scan(name string, generation uint32) string {
	return "qstream.scan." + generational(name, generation) + ".v1"
}

func generational(name string, generation uint32) string {
	if generation <= 1 {
		return name
	}
	return fmt.Sprintf("%s.%d", name, generation)
}

// Tiers are the waits that have a topic each, ascending. A leg waits in the
// smallest tier that is not below its wait; above the last it rounds again.
var Tiers = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 4 * time.Hour}

// tierNames are the tiers as their topics' names carry them.
var tierNames = []string{"1m", "5m", "15m", "1h", "4h"}

// DelayTopics are the topics of the tiers, in their order.
func DelayTopics() []string {
	names := make([]string, len(tierNames))
	for i, t := range tierNames {
		names[i] = "qstream.delay." + t + ".v1"
	}
	return names
}

// Delay is the topic and the tier for a wait.
func Delay(wait time.Duration) (string, time.Duration) {
	for i, tier := range Tiers {
		if wait <= tier {
			return DelayTopics()[i], tier
		}
	}
	last := len(Tiers) - 1
	return DelayTopics()[last], Tiers[last]
}
