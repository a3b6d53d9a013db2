package directory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"qstream/bus"
	"qstream/bus/bustest"
	"qstream/schemas"
	"qstream/test/kafka"
)

// secured are settings of a broker that asks who a client is, and refuses what
// no access list allows. Brokers and controllers among themselves may all.
var secured = []string{
	"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:SASL_PLAINTEXT",
	"sasl.enabled.mechanisms=PLAIN",
	"sasl.mechanism.inter.broker.protocol=PLAIN",
	"listener.name.plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required " +
		`username="root" password="r" user_root="r" user_qstream="q" user_acme="a" user_beta="b" user_other="o";`,
	"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
	"super.users=User:root;User:ANONYMOUS",
}

// guarded is a broker with access lists.
type guarded struct {
	t     *testing.T
	seeds []string
}

// try asks until the answer is the one that is wanted: an access list holds
// from a moment after it was acknowledged.
func (r guarded) try(what string, may bool, ask func(context.Context) error) {
	r.t.Helper()
	var err error
	for until := time.Now().Add(time.Minute); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
		err = ask(ctx)
		cancel()
		if may && err == nil || !may && errors.Is(err, bustest.ErrRefused) {
			return
		}
	}
	r.t.Errorf("%s: %v, want it allowed: %v", what, err, may)
}

func (r guarded) consume(user, group, topic string, may bool) {
	r.t.Helper()
	r.try(user+" reads "+topic+" in group "+group, may, func(ctx context.Context) error {
		value, err := bustest.Consume(ctx, r.seeds, bustest.User{Name: user, Password: user[:1]}, group, topic)
		if err == nil && string(value) != topic {
			return fmt.Errorf("read %q", value)
		}
		return err
	})
}

// TestReadersOnKafka: on Apache Kafka with its own authorizer an apply lets a
// tenant's principal read the tenant's events in groups of its own, and nothing
// else; another apply gives the right to somebody else, or takes it away.
// qstream itself has no rights there but those that operations.md tells.
func TestReadersOnKafka(t *testing.T) {
	if os.Getenv("QSTREAM_TEST_KAFKA") == "" {
		t.Skip("skipped: starts Apache Kafka; set QSTREAM_TEST_KAFKA to run it")
	}
	cluster, err := kafka.Start(t.Context(), kafka.Options{Extra: secured})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cluster.Stop() })
	r := guarded{t, cluster.Seeds()}
	if err := bustest.Grant(t.Context(), r.seeds, bustest.User{Name: "root", Password: "r"}, "qstream", "qstream."); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Dial(bus.Config{Seeds: r.seeds, SASL: bus.SASL{Mechanism: "PLAIN", User: "qstream", Password: "q"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	var tenants []string
	apply := func(text string) {
		t.Helper()
		if _, err := Apply(t.Context(), b, Change{Documents: documentsOf(t, text)}, Options{}); err != nil {
			t.Fatal(err)
		}
	}
	// The rights of qstream hold from a moment after they were given, too.
	for until := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err = b.CreateTopics(t.Context(), schemas.FixedTopics(), bus.CreateOptions{}); err == nil {
			break
		} else if time.Now().After(until) {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"acme", "beta"} {
		apply("{kind: tenant, name: " + name + ", domains: [" + name + ".example], events: {topic: true, principal: \"User:" + name + "\"}}\n")
		tenants = append(tenants, schemas.TenantEvents(name))
	}
	acme, beta := tenants[0], tenants[1]
	// What a stage of qstream does: a transaction from topic to topic.
	if err := b.Begin(t.Context(), schemas.TenantsGroup, []string{schemas.Events}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), &bus.Record{Topic: schemas.Events, Partition: 0, Value: []byte(schemas.Events)}); err != nil {
		t.Fatal(err)
	}
	derived, done := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Transform(derived, schemas.TenantsGroup, bus.NewTopics(schemas.Events), func(context.Context, []byte, bus.Record) ([]bus.Record, []byte, error) {
			return []bus.Record{{Topic: acme, Partition: 0, Value: []byte(acme)}, {Topic: beta, Partition: 0, Value: []byte(beta)}}, nil, nil
		})
	}()
	r.consume("acme", "acme.crm", acme, true)
	r.consume("beta", "beta.crm", beta, true)
	done()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, tt := range []struct{ user, group, topic string }{
		{"acme", "acme.crm", beta}, {"beta", "beta.crm", acme}, {"acme", "acme.crm", schemas.Events}, {"acme", "acme.crm", schemas.Received},
		{"acme", "beta.crm", acme}, {"acme", schemas.TenantsGroup, acme}, {"other", "acme.crm", acme},
	} {
		r.consume(tt.user, tt.group, tt.topic, false)
	}
	r.try("acme writes", false, func(ctx context.Context) error {
		return bustest.Produce(ctx, r.seeds, bustest.User{Name: "acme", Password: "a"}, acme)
	})
	// Another principal, and none: the topics stay.
	apply("{kind: tenant, name: beta, domains: [beta.example], events: {topic: true, principal: \"User:other\"}}\n")
	r.consume("other", "beta.two", beta, true)
	r.consume("beta", "beta.crm", beta, false)
	apply("{kind: tenant, name: acme, domains: [acme.example]}\n")
	r.consume("acme", "acme.crm", acme, false)
	r.consume("other", "beta.three", beta, true)
}
