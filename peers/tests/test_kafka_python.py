"""kafka-python 3.0: a second opinion, with a codec and a group implementation of its own."""

import threading
import time
from contextlib import contextmanager

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from harness.waiting import TimedOut, wait_for
from traffic import create_topic

CODECS = [None, "gzip", "snappy", "lz4", "zstd"]


def servers(target) -> list[str]:
    return target.bootstrap.split(",")


def read(client, count: int, deadline_s: float = 30) -> list:
    records, end = [], time.monotonic() + deadline_s
    while len(records) < count:
        if time.monotonic() > end:
            raise TimedOut(f"{len(records)} of {count} records in {deadline_s} s")
        for batch in client.poll(timeout_ms=200).values():
            records += batch
    return records


def member(target, group: str, topic: str | None = None) -> KafkaConsumer:
    client = KafkaConsumer(
        bootstrap_servers=servers(target), group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, session_timeout_ms=6000, heartbeat_interval_ms=500, check_crcs=True
    )
    if topic:
        client.subscribe([topic])
        # kafka-python 3.0 forgets to ask for the topic when the answer to its first metadata request, which names none, comes after `subscribe`;
        # its assignments then stay empty until its metadata is five minutes old.
        wait_for(lambda: client.partitions_for_topic(topic), f"the partitions of {topic}")
    return client


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_produced_is_consumed(target, name, codec):
    create_topic(target, name, partitions=1)
    values = [b"value %d compresses, compresses, compresses" % number for number in range(1000)]
    sender = KafkaProducer(bootstrap_servers=servers(target), acks="all", compression_type=codec, linger_ms=5)
    sent = [sender.send(name, value, key=b"k", headers=[("trace", b"\xff")]) for value in values]
    sender.flush(timeout=30)
    assert [future.get(timeout=10).offset for future in sent] == list(range(1000))
    sender.close()
    client = member(target, name)
    client.assign([TopicPartition(name, 0)])
    client.seek_to_beginning()
    got = read(client, 1000)
    client.close(autocommit=False)
    assert [record.value for record in got] == values
    assert all(record.key == b"k" and list(record.headers) == [("trace", b"\xff")] for record in got)


@contextmanager
def polled(*clients):
    """Polls each member in a thread of its own, as applications do, until the block ends.

    kafka-python 3.0 throws a join away that completes while nobody polls: the next poll sends another JoinGroup. A leader that does so begins
    a new generation, at Kafka too, so that members polled in turn by one thread can go round for a long time."""
    done = threading.Event()

    def poll(client):
        while not done.is_set():
            client.poll(timeout_ms=50)

    threads = [threading.Thread(target=poll, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_two_members_share_a_group_and_lag_is_visible(target, name):
    create_topic(target, name, partitions=4)
    first, second = member(target, name, name), member(target, name, name)
    try:

        def balanced():
            return sorted(len(client.assignment()) for client in (first, second)) == [2, 2]

        with polled(first, second):
            wait_for(balanced, "two partitions for each member", 40)
        sender = KafkaProducer(bootstrap_servers=servers(target), acks="all")
        for partition in range(4):
            for number in range(10):
                sender.send(name, b"%d" % number, partition=partition)
        sender.flush(timeout=30)
        sender.close()
        assert len(read(first, 20)) == 20
        first.commit()
        assert len(read(second, 20)) == 20
        second.commit({partition: OffsetAndMetadata(7, "note", -1) for partition in second.assignment()})

        admin = KafkaAdminClient(bootstrap_servers=servers(target))
        described = admin.describe_groups([name])
        assert name in str(described) and "Stable" in str(described)
        admin.close()
        ends = first.end_offsets([TopicPartition(name, partition) for partition in range(4)])
        lag = {partition: end - (first.committed(partition) or 0) for partition, end in ends.items()}
        assert sum(lag.values()) == 6
    finally:
        first.close(autocommit=False)
        second.close(autocommit=False)


def test_topics_are_listed_described_and_deleted(target, name):
    create_topic(target, name, partitions=3)
    admin = KafkaAdminClient(bootstrap_servers=servers(target))
    try:
        wait_for(lambda: name in str(admin.list_topics()), "the topic to be listed")
        assert name in str(admin.describe_topics([name]))
        admin.delete_topics([name])
        wait_for(lambda: name not in str(admin.list_topics()), "the topic to be gone")
    finally:
        admin.close()
