"""Follows what happens to mail: reads the events topic, or a tenant's, as a
consumer group, and prints a line for each event.

    pip install confluent-kafka protobuf
    protoc -I schemas --include_imports -o events.binpb qstream/v1/event.proto
    python events.py --broker 127.0.0.1:9092 --schema events.binpb

Each event is printed at least once: what was printed and not committed when the
program ends is printed again by the next. Ids tell repetitions.
"""

import argparse

from confluent_kafka import Consumer, KafkaException
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def event_class(path):
    """The class of qstream.v1.Event from a compiled schema."""
    files = descriptor_pb2.FileDescriptorSet()
    with open(path, "rb") as f:
        files.ParseFromString(f.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("qstream.v1.Event"))


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--broker", default="127.0.0.1:9092")
    args.add_argument("--topic", default="qstream.events.v1")
    args.add_argument("--group", default="example.python")
    args.add_argument("--schema", default="events.binpb")
    args.add_argument("--count", type=int, default=0, help="end after so many events")
    args = args.parse_args()

    event = event_class(args.schema)
    types = event.DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number
    consumer = Consumer({
        "bootstrap.servers": args.broker,
        "group.id": args.group,
        "isolation.level": "read_committed",  # else what was never done shows up
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    })
    consumer.subscribe([args.topic])
    seen = set()  # a real reader bounds this to some minutes
    printed = 0
    try:
        while not args.count or printed < args.count:
            record = consumer.poll(1.0)
            if record is None:
                continue
            if record.error():
                raise KafkaException(record.error())
            e = event()
            e.ParseFromString(record.value())
            if e.id not in seen:
                seen.add(e.id)
                # A type that this schema doesn't know yet is a number.
                kind = types[e.type].name if e.type in types else e.type
                print(e.id, kind, e.message_id, e.tenant, flush=True)
                printed += 1
            consumer.commit(record, asynchronous=False)  # only now is it done with
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
