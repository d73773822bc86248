"""The partition folder both ways: what Whimbrel wrote, Apache Kafka 4.2 opens and serves; what Kafka wrote, Whimbrel does.

A folder is put in the place of an empty partition of the other system while that is stopped; only `partition.metadata`, which names the topic's id,
stays. Nothing says that the log was closed cleanly, so that each system goes through every batch and would cut off what it cannot read.
"""

import shutil
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from harness import target as targets
from harness.waiting import wait_for
from traffic import admin, create_topic, produce, producer, read_all

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# Some records are years old, and none may be retained away.
CONFIG = {"segment.bytes": "1048576", "index.interval.bytes": "4096", "retention.ms": "-1"}
COMPACTED = {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01", "segment.ms": "500", "delete.retention.ms": "600000"}
RESTING = {"cleanup.policy": "delete", "retention.ms": "-1"}
TOPICS = {"codecs": CONFIG, "transactions": CONFIG, "compacted": COMPACTED}


def fill_codecs(target) -> None:
    for codec in CODECS:
        sender = producer(target, **{"compression.type": codec, "enable.idempotence": True, "batch.size": 20_000})
        values = [bytes((number * 7 + place * place * 31) % 251 for place in range(200)) + b"%d" % number for number in range(2000)]
        produce(sender, "codecs", values, key=codec.encode(), headers=[("trace", b"\xff"), ("none", None)])
    # Old and odd timestamps: the time index is not in the order of offsets.
    for at_ms in (1_500_000_000_000, 1_000, 1_600_000_000_000):
        produce(producer(target), "codecs", [b"%d" % at_ms], timestamp=at_ms)


def fill_transactions(target) -> None:
    for number in range(12):
        sender = Producer({"bootstrap.servers": target.bootstrap, "transactional.id": f"writer-{number % 3}"})
        sender.init_transactions(60)
        sender.begin_transaction()
        for value in range(50):
            sender.produce("transactions", b"%d of %d" % (value, number))
        sender.flush(60)
        (sender.abort_transaction if number % 3 == 1 else sender.commit_transaction)(60)


def fill_compacted(target) -> None:
    sender = producer(target)
    for turn in range(30):
        for key in range(100):
            sender.produce("compacted", key=b"key %d" % key, value=None if (turn + key) % 10 == 0 else b"turn %d " % turn + bytes(100))
        assert sender.flush(60) == 0
    folder = target.partition_folder("compacted", 0)

    def cleaned():
        # The active segment is never cleaned: something must come after it to make it an older one.
        produce(sender, "compacted", [b"tick"], key=b"tick")
        return min(int(log.stem) for log in folder.glob("*.log")) == 0 and sum(log.stat().st_size for log in folder.glob("*.log")) < 120_000

    wait_for(cleaned, "the log to be cleaned", 90, pause_s=0.6)
    # What is compared must stand still from here on.
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in RESTING.items()]
    resource = ConfigResource(ResourceType.TOPIC, "compacted", incremental_configs=entries)
    client = admin(target)
    for altered in client.incremental_alter_configs([resource]).values():
        altered.result(30)


FILL = {"codecs": fill_codecs, "transactions": fill_transactions, "compacted": fill_compacted}


def seen(target, topic: str) -> dict[str, list]:
    """All that consumers of either isolation level are given."""

    def rows(level: str) -> list:
        messages = read_all(target.bootstrap, topic, **{"isolation.level": level})
        return [(message.offset(), message.timestamp(), message.key(), message.value(), message.headers()) for message in messages]

    return {level: rows(level) for level in ("read_uncommitted", "read_committed")}


def at_rest(target, topic: str) -> dict[str, list]:
    """The same, of a log that no cleaning changed while it was read: one may have been under way."""

    def unchanged():
        files = logs(target.partition_folder(topic, 0))
        rows = seen(target, topic)
        return rows if logs(target.partition_folder(topic, 0)) == files else None

    return wait_for(unchanged, "the log to stand still", 60)


def made(target, topic: str) -> Path | None:
    """The folder of the partition once the system has written who it is."""
    folder = target.partition_folder(topic, 0)
    return folder if folder and (folder / "partition.metadata").exists() else None


def transplant(source: Path, place: Path) -> None:
    for old in place.iterdir():
        if old.name != "partition.metadata":
            old.unlink()
    for new in source.iterdir():
        if new.is_file() and new.name != "partition.metadata":
            shutil.copy(new, place)


def logs(folder: Path) -> dict[str, bytes]:
    return {log.name: log.read_bytes() for log in folder.glob("*.log") if log.stat().st_size}


@pytest.mark.timeout(500)
@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("writer, reader", [("whimbrel", "kafka"), ("kafka", "whimbrel")])
def test_a_partition_folder_of_one_is_served_by_the_other(tmp_path, topic, writer, reader):
    systems = {name: targets.make(name, tmp_path / name) for name in (writer, reader)}
    try:
        source = systems[writer].start()
        create_topic(source, topic, config=TOPICS[topic])
        FILL[topic](source)
        wanted = at_rest(source, topic)
        assert wanted["read_uncommitted"], "nothing was written"
        source.kill()
        folder = source.partition_folder(topic, 0)
        files = logs(folder)

        copy = systems[reader].start()
        create_topic(copy, topic, config=TOPICS[topic] | RESTING)
        place = wait_for(lambda: made(copy, topic), "the partition's folder", 30)
        copy.kill()
        transplant(folder, place)
        copy.start()
        wait_for(lambda: admin(copy).list_topics(topic, timeout=10).topics[topic].partitions[0].leader >= 0, "a leader", 60)
        assert seen(copy, topic) == wanted
        copy.kill()
        # Not one byte was cut off or written anew.
        assert logs(copy.partition_folder(topic, 0)) == files
    finally:
        for system in systems.values():
            system.stop()
