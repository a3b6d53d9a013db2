package bus

import (
	"fmt"
	"os"
	"testing"
	"time"

	"qstream/test/kafka"
)

// Two of three brokers freeze: publishing fails within its own time, however
// the connections look, and goes on by itself when they are back. What was
// acknowledged is there, once.
func TestPublishOutlivesLostQuorum(t *testing.T) {
	if os.Getenv("QSTREAM_TEST_KAFKA") == "" || os.Getenv("QSTREAM_TEST_LONG") == "" {
		t.Skip("starts three Kafka brokers and freezes two: set QSTREAM_TEST_KAFKA and QSTREAM_TEST_LONG=1")
	}
	c, err := kafka.Start(t.Context(), kafka.Options{Brokers: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	b, err := Dial(Config{Seeds: c.Seeds(), Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	topic := newTopic(t, b, 3).Name
	acknowledged, failed := 0, 0
	publish := func() error {
		r := &Record{Topic: topic, Partition: AnyPartition, Key: fmt.Append(nil, acknowledged+failed), Value: []byte("x")}
		started := time.Now()
		err := b.Publish(t.Context(), r)
		if took := time.Since(started); took > 20*time.Second {
			t.Errorf("took %v with a limit of 5 s", took)
		}
		if err != nil {
			failed++
		} else {
			acknowledged++
		}
		return err
	}
	for range 20 {
		if err := publish(); err != nil {
			t.Fatal(err)
		}
	}
	for _, broker := range c.Brokers[1:] {
		if err := broker.Freeze(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if publish() == nil {
			t.Error("acknowledged by one broker of three")
		}
	}
	for _, broker := range c.Brokers[1:] {
		if err := broker.Thaw(); err != nil {
			t.Fatal(err)
		}
	}
	thawed := time.Now()
	for publish() != nil {
		if time.Since(thawed) > time.Minute {
			t.Fatal("no recovery within a minute")
		}
	}
	t.Logf("publishing %v after the thaw", time.Since(thawed))
	found := map[string]int{}
	err = b.Read(t.Context(), []string{topic}, Start{}, func(r Record) error { found[string(r.Key)]++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	for key, n := range found {
		if n > 1 {
			t.Errorf("record %s is there %d times", key, n)
		}
	}
	if len(found) < acknowledged {
		t.Errorf("%d records of %d acknowledged", len(found), acknowledged)
	}
	t.Logf("%d acknowledged, %d refused, %d stored", acknowledged, failed, len(found))
}
