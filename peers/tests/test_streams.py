"""Kafka Streams 4.2 with exactly_once_v2: the Java client's transactions, over a broker that is killed in between."""

from collections import defaultdict
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from harness import tools
from harness.waiting import wait_for
from traffic import create_topic, produce, producer

PROGRAM = Path(__file__).parents[1] / "java" / "WordCount.java"
WORDS = ["whimbrel", "curlew", "godwit", "knot", "sanderling"]


def lines(first: int, count: int) -> list[bytes]:
    """Two words a line, so that a line is more than one change."""
    return [f"{WORDS[number % 5]} {WORDS[number % 3]}".encode() for number in range(first, first + count)]


class Counts:
    """Reads the output as Streams' own consumers would: committed changes only."""

    def __init__(self, bootstrap: str, topic: str, partitions: int):
        self.client = Consumer({"bootstrap.servers": bootstrap, "group.id": "counts", "isolation.level": "read_committed", "enable.auto.commit": False})
        self.client.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        self.seen: dict[str, list[int]] = defaultdict(list)

    def changes(self) -> int:
        while (message := self.client.poll(0.2)) is not None:
            if not message.error():
                self.seen[message.key().decode()].append(int(message.value()))
        return sum(map(len, self.seen.values()))


@pytest.mark.timeout(400)
def test_words_are_counted_once_over_a_killed_broker(own_target, name, tmp_path):
    target, out = own_target, f"{name}-out"
    create_topic(target, name, partitions=2)
    create_topic(target, out, partitions=2)
    counts = Counts(target.bootstrap, out, 2)
    application = tools.start_program(PROGRAM, target.bootstrap, name, name, out, tmp_path / "state", log=tmp_path / "streams.log")
    wait_for(lambda: "RUNNING" in application.lines, "Streams to run", 90)

    produce(producer(target), name, lines(0, 300))
    wait_for(lambda: counts.changes() >= 200, "the first counts", 60)
    target.restart()
    produce(producer(target), name, lines(300, 300))
    try:
        wait_for(lambda: counts.changes() >= 1200, "all counts", 120)
    except AssertionError as late:
        raise AssertionError(f"{late}\n{application.tail(40)}") from late
    application.stop()

    # Nothing may come after the last: one more change would be a line counted twice.
    assert counts.changes() == 1200
    wanted: dict[str, int] = defaultdict(int)
    for line in lines(0, 600):
        for word in line.decode().split():
            wanted[word] += 1
    assert counts.seen == {word: list(range(1, total + 1)) for word, total in wanted.items()}
