"""The translated flow between two clusters somebody else runs: two Kafka 4.2, the source with compaction gaps, so that offsets differ.

A group reads a part at the source, moves to the target, reads on there, and moves back: it misses nothing and repeats nothing."""

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from harness.flow import Flow
from harness.kafka import Kafka
from harness.waiting import wait_for
from traffic import consumer, create_topic, poll, produce, producer, read_all

TOPIC = "accounts"
GROUP = "auditors"
KEYS = 200
# With 4.2's smallest segment (1 MiB) these fill several, so that the cleaner has closed ones to work on.
ROUNDS = 60
FILLER = b"." * 400


@pytest.fixture
def clusters(tmp_path):
    made = [Kafka(tmp_path / name) for name in ("source", "target")]
    try:
        yield [kafka.start() for kafka in made]
    finally:
        for kafka in made:
            kafka.stop()


def with_gaps(source: Kafka) -> None:
    """A compacted topic of which the cleaner has removed records in many places; all that is left has unique keys and stays."""
    config = {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01", "min.compaction.lag.ms": "0"}
    create_topic(source, TOPIC, config=config)
    sender = producer(source)
    for turn in range(ROUNDS):
        # Keys of uneven age leave gaps all over, not one big one.
        for key in range(KEYS):
            if (key * 7 + turn) % (1 + key % 5) == 0:
                produce_one(sender, b"old-%d" % key, b"%d.%d" % (turn, key))
            # What nothing overwrites stays, so that the gaps lie between records that are read.
            if key % 4 == 0:
                produce_one(sender, b"once-%d-%d" % (turn, key), b"once.%d.%d" % (turn, key))
    sender.flush(60)
    # The active segment is never cleaned: fill another.
    for number in range(3000):
        produce_one(sender, b"new-%d" % number, b"new.%d" % number)
    sender.flush(60)

    def cleaned():
        offsets = [message.offset() for message in read_all(source.bootstrap, TOPIC)]
        return sum(after - before > 1 for before, after in zip(offsets, offsets[1:])) > 20

    wait_for(cleaned, "the cleaner to leave gaps", 60, 1.0)


def produce_one(sender, key: bytes, value: bytes) -> None:
    sender.produce(TOPIC, value + FILLER, key=key)
    sender.poll(0)


def position(bootstrap: str) -> int | None:
    client = AdminClient({"bootstrap.servers": bootstrap})
    (future,) = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(GROUP, [TopicPartition(TOPIC, 0)])]).values()
    (entry,) = future.result(30).topic_partitions
    return entry.offset if entry.offset >= 0 else None


def wait_for_position(kafka: Kafka, records: list, consumed: int) -> None:
    """Until the group stands behind record `consumed - 1` and not behind record `consumed`, by index in what the cluster holds."""
    after, upto = records[consumed - 1].offset(), records[consumed].offset()

    def there():
        found = position(kafka.bootstrap)
        assert found is not None and after < found <= upto, f"position {found}, wanted above {after} and up to {upto}"
        return True

    wait_for(there, "the translated position", 60, 0.5)


def read_on(kafka: Kafka, count: int) -> list[bytes]:
    """A member joins, reads, commits after the last record it has, leaves."""
    member = consumer(kafka, GROUP, **{"isolation.level": "read_committed"})
    member.subscribe([TOPIC])
    messages = poll(member, count, 60)
    member.commit(message=messages[-1], asynchronous=False)
    member.close()
    return [message.value() for message in messages]


def test_a_group_moves_over_and_back(clusters, tmp_path):
    source, target = clusters
    with_gaps(source)
    at_source = read_all(source.bootstrap, TOPIC)
    whole = [(message.key(), message.value(), message.timestamp()) for message in at_source]
    third = len(whole) // 3
    seen = read_on(source, third)

    with Flow(tmp_path, source.bootstrap, target.bootstrap, TOPIC, GROUP):

        def copied():
            found = read_all(target.bootstrap, TOPIC)
            assert [(message.key(), message.value(), message.timestamp()) for message in found] == whole
            return found

        at_target = wait_for(copied, "the target to hold the same records", 90, 1.0)
        assert [message.offset() for message in at_target] != [message.offset() for message in at_source], "the offsets were to differ"
        wait_for_position(target, at_target, third)
        seen += read_on(target, third)
        wait_for_position(source, at_source, 2 * third)
        seen += read_on(source, len(whole) - 2 * third)

    assert seen == [value for _, value, _ in whole]
