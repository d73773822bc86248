"""What several tests do with confluent-kafka: topics, clients, reading a topic to its end."""

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from harness.waiting import TimedOut


def admin(target) -> AdminClient:
    """Keep it in a variable until its futures are done: they fail or hang when it is collected."""
    return AdminClient({"bootstrap.servers": target.bootstrap})


def create_topic(target, name: str, partitions: int = 1, config: dict | None = None, bootstrap: str | None = None) -> None:
    client = AdminClient({"bootstrap.servers": bootstrap or target.bootstrap})
    for future in client.create_topics([NewTopic(name, partitions, 1, config=config or {})], operation_timeout=30).values():
        future.result(30)


def producer(target, **settings) -> Producer:
    return Producer({"bootstrap.servers": target.bootstrap, "acks": "all", "linger.ms": 5} | settings)


def consumer(target, group: str, **settings) -> Consumer:
    return Consumer(
        {"bootstrap.servers": target.bootstrap, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False, "check.crcs": True, "session.timeout.ms": 6000}
        | settings
    )


def produce(client: Producer, topic: str, values, *, deadline_s: float = 60, **arguments) -> list:
    """Produces the values in order and returns their delivered messages in the order of the reports. A failed delivery raises."""
    delivered, failed = [], []

    def report(error, message):
        (failed if error else delivered).append(error or message)

    for value in values:
        client.produce(topic, value, on_delivery=report, **arguments)
        client.poll(0)
    left = client.flush(deadline_s)
    if failed or left:
        raise AssertionError(f"{len(failed)} deliveries failed ({failed[:1]}), {left} without an answer")
    return delivered


def poll(client: Consumer, count: int, deadline_s: float = 30) -> list:
    """Exactly `count` messages, or a failure that says how many came."""
    messages, end = [], time.monotonic() + deadline_s
    while len(messages) < count:
        message = client.poll(0.2)
        if message is None:
            if time.monotonic() > end:
                raise TimedOut(f"{len(messages)} of {count} messages in {deadline_s} s")
        elif message.error():
            # A broker that is just being replaced is librdkafka's business, not ours.
            if message.error().fatal() or message.error().code() == KafkaError.OFFSET_OUT_OF_RANGE:
                raise KafkaException(message.error())
        else:
            messages.append(message)
    return messages


def read_all(bootstrap: str, topic: str, partitions: int = 1, deadline_s: float = 60, **settings) -> list:
    """Every message of the topic, by a plain consumer without a group, in order within each partition."""
    client = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False, "check.crcs": True, "enable.partition.eof": True, "auto.offset.reset": "error"} | settings
    )
    starts = []
    for partition in range(partitions):
        low, _ = client.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
        starts.append(TopicPartition(topic, partition, low))
    client.assign(starts)
    messages, ended, end = [], set(), time.monotonic() + deadline_s
    while len(ended) < partitions:
        message = client.poll(0.2)
        if time.monotonic() > end:
            raise TimedOut(f"{topic}: {len(messages)} messages and the ends of {sorted(ended)} in {deadline_s} s")
        if message is None:
            continue
        if not message.error():
            messages.append(message)
        elif message.error().code() == KafkaError._PARTITION_EOF:
            ended.add(message.partition())
        elif message.error().fatal() or message.error().code() == KafkaError._AUTO_OFFSET_RESET:
            raise KafkaException(message.error())
    client.close()
    return messages
