"""A topic whose closed segments are only in the tiered store, read from its beginning by every client: the same bytes as when they were hot."""

import subprocess

import pytest
from kafka import KafkaConsumer
from kafka import TopicPartition as PythonPartition

from harness import tools
from harness.waiting import wait_for
from traffic import create_topic, produce, producer, read_all

TOPIC = "cold"
COUNT = 12_000


@pytest.fixture(scope="module")
def values(tiered_target):
    """What the topic holds; when this returns, only the active segment is on the local disk."""
    config = {"segment.bytes": "1048576", "local.retention.bytes": "1", "file.delete.delay.ms": "100"} | tiered_target.tiered_topic
    create_topic(tiered_target, TOPIC, config=config)
    made = [b"%d %s" % (number, bytes(97 + (number * place) % 23 for place in range(400))) for number in range(COUNT)]
    # Snappy, gzip and none in turn: batches come back as they were written.
    for start, codec in ((0, "none"), (4000, "snappy"), (8000, "none")):
        sender = producer(tiered_target, **{"compression.type": codec, "batch.size": 50_000, "enable.idempotence": True})
        produce(sender, TOPIC, made[start : start + 4000])
    folder = tiered_target.partition_folder(TOPIC, 0)
    wait_for(lambda: len(list(folder.glob("*.log"))) == 1, "closed segments to leave the local disk", 90, 0.2)
    (active,) = folder.glob("*.log")
    assert int(active.stem) > COUNT // 2, "most of the topic was to be cold"
    return made


def test_librdkafka(tiered_target, values):
    read = read_all(tiered_target.bootstrap, TOPIC)
    assert [message.value() for message in read] == values
    assert [message.offset() for message in read] == list(range(COUNT))


def test_an_old_librdkafka(tiered_target, values):
    command = ["kcat", "-b", tiered_target.bootstrap, "-q", "-C", "-t", TOPIC, "-e", "-o", "beginning", "-X", "check.crcs=true", "-X", "isolation.level=read_committed"]
    assert subprocess.run(command, capture_output=True, check=True, timeout=60).stdout == b"".join(value + b"\n" for value in values)


def test_kafka_python(tiered_target, values):
    client = KafkaConsumer(bootstrap_servers=tiered_target.bootstrap.split(","), consumer_timeout_ms=10_000, check_crcs=True)
    client.assign([PythonPartition(TOPIC, 0)])
    client.seek_to_beginning()
    got = [record.value for record, _ in zip(client, range(COUNT))]
    client.close()
    assert got == values


def test_the_java_consumer_at_read_committed(tiered_target, values):
    out = tools.run(
        tools.CONSOLE_CONSUMER, "--bootstrap-server", tiered_target.bootstrap, "--topic", TOPIC, "--from-beginning", "--max-messages", COUNT, "--timeout-ms", "20000", "--isolation-level", "read_committed"
    )
    assert out.encode() == b"".join(value + b"\n" for value in values)


def test_offsets_by_time_reach_into_cold_data(tiered_target, values):
    first = read_all(tiered_target.bootstrap, TOPIC)[100]
    out = tools.run(tools.OFFSETS, "--bootstrap-server", tiered_target.bootstrap, "--topic", TOPIC, "--time", first.timestamp()[1])
    offset = int(out.strip().rsplit(":", 1)[1])
    assert offset <= 100 and read_all(tiered_target.bootstrap, TOPIC)[offset].timestamp()[1] >= first.timestamp()[1]


def test_read_committed_leaves_out_what_was_aborted(tiered_target, values):
    """A topic of transactions, committed and aborted in turn, whose markers are as cold as its records."""
    topic = "cold-transactions"
    config = {"segment.bytes": "1048576", "local.retention.bytes": "1", "file.delete.delay.ms": "100"} | tiered_target.tiered_topic
    create_topic(tiered_target, topic, config=config)
    sender = producer(tiered_target, **{"transactional.id": "cold", "batch.size": 20_000})
    sender.init_transactions(30)
    committed, all_values = [], []
    for number in range(40):
        made = [b"%d %d %s" % (number, place, bytes(97 + (number * place) % 23 for place in range(400))) for place in range(200)]
        sender.begin_transaction()
        produce(sender, topic, made)
        all_values += made
        if number % 4 in (1, 2):
            sender.abort_transaction(30)
        else:
            sender.commit_transaction(30)
            committed += made
    folder = tiered_target.partition_folder(topic, 0)
    wait_for(lambda: len(list(folder.glob("*.log"))) == 1, "closed segments to leave the local disk", 90, 0.2)
    (active,) = folder.glob("*.log")
    assert int(active.stem) > len(all_values) // 2, "most of the topic was to be cold"
    read = read_all(tiered_target.bootstrap, topic, **{"isolation.level": "read_committed"})
    assert [message.value() for message in read] == committed
    read = read_all(tiered_target.bootstrap, topic, **{"isolation.level": "read_uncommitted"})
    assert [message.value() for message in read] == all_values
