"""Consumers that name the region they stand in (KIP-392): its broker serves them what the home's clients wrote, and they carry on when it is lost."""

import re

import pytest
from confluent_kafka import TopicPartition
from kafka import KafkaConsumer, TopicPartition as KafkaPythonPartition

from harness import tools
from harness.waiting import wait_for
from traffic import consumer, create_topic, poll, produce, producer

WEST = "west"
SIZE = 1000


@pytest.fixture
def fleet(own_target):
    if own_target.name == "kafka":
        pytest.skip("one Kafka broker has one rack")
    return own_target.fleet


def written(target, fleet, name: str, count: int, first: int = 0) -> list[bytes]:
    values = [(b"%d " % number).ljust(SIZE, b"x") for number in range(first, first + count)]
    produce(producer(target), name, values)

    wait_for(lambda: fleet.high_watermarks(WEST, name) == {0: first + count}, f"{first + count} records in {WEST}", 30)
    return values


def test_librdkafka_reads_beside_itself_and_goes_home_when_that_is_lost(own_target, fleet, name):
    create_topic(own_target, name)
    before = written(own_target, fleet, name, 300)
    home, there = fleet.sent("east"), fleet.sent(WEST)
    reader = consumer(own_target, name, **{"client.rack": WEST})
    reader.assign([TopicPartition(name, 0, 0)])
    assert [message.value() for message in poll(reader, 300)] == before
    assert fleet.sent(WEST) - there >= 300 * SIZE
    assert fleet.sent("east") == home, "the home sent it there before any record"
    # New ones as well, and without a second question at home.
    more = written(own_target, fleet, name, 50, first=300)
    assert [message.value() for message in poll(reader, 50)] == more
    assert fleet.sent("east") == home
    fleet.kill_region(WEST)
    values = [b"after %d" % number for number in range(50)]
    produce(producer(own_target), name, values)
    assert [message.value() for message in poll(reader, 50, 60)] == values
    reader.close()


def test_kafkas_own_consumer_and_kafka_python_read_beside_themselves(own_target, fleet, name, tmp_path):
    create_topic(own_target, name)
    values = [value.decode() for value in written(own_target, fleet, name, 200)]
    before = fleet.sent(WEST), fleet.sent("east")
    server = ("--bootstrap-server", own_target.bootstrap, "--topic", name, "--from-beginning", "--timeout-ms", "30000")
    got = tools.run(tools.CONSOLE_CONSUMER, *server, "--max-messages", "200", "--command-property", f"client.rack={WEST}")
    assert got.splitlines() == values
    java = fleet.sent(WEST)
    assert java - before[0] >= 200 * SIZE
    reader = KafkaConsumer(bootstrap_servers=own_target.bootstrap.split(","), client_rack=WEST, group_id=None, consumer_timeout_ms=20_000)
    reader.assign([KafkaPythonPartition(name, 0)])
    reader.seek_to_beginning()
    assert [message.value.decode() for _, message in zip(range(200), reader)] == values
    reader.close()
    assert fleet.sent(WEST) - java >= 200 * SIZE
    assert fleet.sent("east") == before[1]


def test_kafkas_own_consumer_goes_home_when_its_region_is_lost(own_target, fleet, name, tmp_path):
    create_topic(own_target, name)
    written(own_target, fleet, name, 100)
    before = fleet.sent(WEST)
    arguments = ("--bootstrap-server", own_target.bootstrap, "--topic", name, "--from-beginning", "--command-property", f"client.rack={WEST}")
    reader = tools.start(tools.CONSOLE_CONSUMER, *arguments, log=tmp_path / "reader.log")
    try:
        wait_for(lambda: len(reader.lines) >= 100, "what was there", 60)
        assert fleet.sent(WEST) - before >= 100 * SIZE
        fleet.kill_region(WEST)
        produce(producer(own_target), name, [b"after %d" % number for number in range(50)])
        wait_for(lambda: len(reader.lines) >= 150, "what came after the loss", 90)
        assert list(reader.lines)[100:] == [f"after {number}" for number in range(50)]
    finally:
        reader.stop()


def test_kafkas_tool_finds_no_copy_missing_while_the_other_region_keeps_up(own_target, fleet, name):
    create_topic(own_target, name)
    written(own_target, fleet, name, 10)
    describe = ("--bootstrap-server", own_target.bootstrap, "--describe", "--topic", name)
    wait_for(lambda: not tools.run(tools.TOPICS, *describe, "--under-replicated-partitions").strip(), "no copy that is missing", 60)
    described = tools.run(tools.TOPICS, *describe)
    replicas, in_sync = (re.search(rf"{what}: (\S+)", described)[1].split(",") for what in ("Replicas", "Isr"))
    assert len(replicas) == 2 and sorted(replicas) == sorted(in_sync)
