// Command events follows what happens to mail: it reads the events topic, or a
// tenant's, as a consumer group, and prints a line for each event.
//
//	protoc -I schemas --include_imports -o events.binpb qstream/v1/event.proto
//	go run . -broker 127.0.0.1:9092 -schema events.binpb
//
// Each event is printed at least once: what was printed and not committed when
// the program ends is printed again by the next. Ids tell repetitions.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

func main() {
	broker := flag.String("broker", "127.0.0.1:9092", "a broker to start from")
	topic := flag.String("topic", "qstream.events.v1", "the topic")
	group := flag.String("group", "example.go", "the consumer group that keeps the place")
	schema := flag.String("schema", "events.binpb", "the compiled schema")
	count := flag.Int("count", 0, "end after so many events; 0: never")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *broker, *topic, *group, *schema, *count); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, broker, topic, group, schema string, count int) error {
	event, err := eventType(schema)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(broker),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), // else what was never done shows up
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	seen := map[string]bool{} // a real reader bounds this to some minutes
	for printed := 0; count == 0 || printed < count; {
		fetches := client.PollFetches(ctx)
		if errors.Is(fetches.Err0(), context.Canceled) {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return err
		}
		for _, record := range fetches.Records() {
			m := dynamicpb.NewMessage(event)
			if err := proto.Unmarshal(record.Value, m); err != nil {
				return err
			}
			id := m.Get(event.Fields().ByName("id")).String()
			if seen[id] {
				continue
			}
			seen[id] = true
			line, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
			if err != nil {
				return err
			}
			var flat map[string]any
			if err := json.Unmarshal(line, &flat); err != nil {
				return err
			}
			fmt.Println(flat["id"], flat["type"], flat["message_id"], flat["tenant"])
			printed++
		}
		// Only now is it done with.
		if err := client.CommitUncommittedOffsets(ctx); err != nil {
			return err
		}
	}
	return nil
}

// eventType finds qstream.v1.Event in a compiled schema.
func eventType(file string) (protoreflect.MessageDescriptor, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(raw, set); err != nil {
		return nil, err
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, err
	}
	d, err := files.FindDescriptorByName("qstream.v1.Event")
	if err != nil {
		return nil, err
	}
	return d.(protoreflect.MessageDescriptor), nil
}
