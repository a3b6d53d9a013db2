package kafka

import (
	"fmt"
	"strings"
)

// clusterID is the same for every cluster; their folders keep them apart.
const clusterID = "cXN0cmVhbS10ZXN0cy4uLg"

// started is what a broker prints once it serves.
const started = "Kafka Server started"

const logging = `rootLogger.level=INFO
rootLogger.appenderRef.a.ref=A
appender.a.type=Console
appender.a.name=A
appender.a.layout.type=PatternLayout
appender.a.layout.pattern=[%d] %p %m (%c)%n
`

// properties is a broker's server.properties: broker and controller in one,
// replicated on a cluster, group limits lowered to what qstream asks for, few
// internal partitions so that it starts fast, small buffers for a small heap.
func properties(b *Broker, controller int, voters string, o Options) string {
	replicas, inSync := 1, 1
	if o.Brokers >= 3 {
		replicas, inSync = 3, 2
	}
	lines := []string{
		"process.roles=broker,controller",
		fmt.Sprintf("node.id=%d", b.ID),
		"controller.quorum.voters=" + voters,
		fmt.Sprintf("listeners=PLAINTEXT://%s,CONTROLLER://127.0.0.1:%d", b.Addr, controller),
		"advertised.listeners=PLAINTEXT://" + b.Front,
		"controller.listener.names=CONTROLLER",
		"inter.broker.listener.name=PLAINTEXT",
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
		"log.dirs=" + b.file("data"),

		fmt.Sprintf("default.replication.factor=%d", replicas),
		fmt.Sprintf("min.insync.replicas=%d", inSync),
		fmt.Sprintf("offsets.topic.replication.factor=%d", replicas),
		fmt.Sprintf("transaction.state.log.replication.factor=%d", replicas),
		fmt.Sprintf("transaction.state.log.min.isr=%d", inSync),
		fmt.Sprintf("share.coordinator.state.topic.replication.factor=%d", replicas),
		fmt.Sprintf("share.coordinator.state.topic.min.isr=%d", inSync),
		"offsets.topic.num.partitions=4",
		"transaction.state.log.num.partitions=4",
		"share.coordinator.state.topic.num.partitions=1",

		"auto.create.topics.enable=false",
		"unclean.leader.election.enable=false",
		"offsets.retention.minutes=144000",
		"group.initial.rebalance.delay.ms=0",
		"group.min.session.timeout.ms=1000",
		"group.consumer.min.session.timeout.ms=1000",
		"group.consumer.min.heartbeat.interval.ms=200",
		"broker.session.timeout.ms=6000",
		"broker.heartbeat.interval.ms=1000",
		"replica.lag.time.max.ms=6000",

		"num.network.threads=2",
		"num.io.threads=4",
		"background.threads=2",
		"log.cleaner.dedupe.buffer.size=8388608",
	}
	return strings.Join(append(lines, o.Extra...), "\n") + "\n"
}
