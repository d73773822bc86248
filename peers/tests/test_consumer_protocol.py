"""The consumer protocol of KIP-848, beside the classic one's cooperative assignor, by librdkafka and by Kafka's own tools: who has which partitions, and that nothing is read twice or missed."""

import json
import subprocess
import sys
import threading

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from harness import tools
from harness.waiting import wait_for
from traffic import admin, create_topic, poll, produce, producer

KINDS = {"auto.offset.reset": "earliest", "enable.auto.commit": False, "group.protocol": "consumer", "topic.metadata.refresh.interval.ms": 1000}
COOPERATIVE = {"group.protocol": "classic", "partition.assignment.strategy": "cooperative-sticky", "heartbeat.interval.ms": 500}
# A member in a process of its own, to be killed; it says when it has partitions.
LONELY = """
import sys
from confluent_kafka import Consumer
client = Consumer({"bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "group.protocol": "consumer"})
client.subscribe([sys.argv[3]])
while True:
    client.poll(0.1)
    print(len(client.assignment()), flush=True)
"""


class Member:
    """A member that a thread of its own polls from `start` on. What it holds is asked for between two polls only: librdkafka answers at no other time."""

    def __init__(self, target, group: str, topics: list[str], **settings):
        self.client = plain(target, group, **settings)
        self.client.subscribe(topics)
        self.held, self.read, self.done = [], [], threading.Event()
        self.thread = threading.Thread(target=self._poll)

    def _poll(self) -> None:
        uncommitted = []
        while not self.done.is_set():
            message = self.client.poll(0.1)
            if message and not message.error():
                uncommitted.append((message.partition(), message.offset()))
            # Only what is committed counts: a test that has seen all records may change the group then.
            if uncommitted and self._commit():
                self.read += uncommitted
                uncommitted = []
            self.held = self.client.assignment()

    def _commit(self) -> bool:
        try:
            self.client.commit(asynchronous=False)
        except KafkaException as refused:
            # Whoever has its partitions may still be on its way to the group's newest epoch; then again after the next poll.
            if refused.args[0].name() not in ("ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "STALE_MEMBER_EPOCH"):
                raise
            return False
        return True

    def __enter__(self) -> "Member":
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        """Leaves the group."""
        self.done.set()
        self.thread.join()
        self.client.close()

    def partitions(self) -> set[int]:
        return {part.partition for part in self.held}

    def topics(self) -> set[str]:
        return {part.topic for part in self.held}


def plain(target, group: str, **settings) -> Consumer:
    return Consumer({"bootstrap.servers": target.bootstrap, "group.id": group} | KINDS | settings)


def shared(shares: list[int], *members: Member) -> bool:
    """Whether each partition has one holder, and as many of them as `shares` says."""
    held = [partition for member in members for partition in member.partitions()]
    return sorted(held) == list(range(sum(shares))) and sorted(len(member.held) for member in members) == shares


def described(target, group: str):
    client = admin(target)
    (future,) = client.describe_consumer_groups([group], request_timeout=10).values()
    return future.result(30)


@pytest.mark.parametrize("settings", [{}, COOPERATIVE], ids=["consumer", "cooperative"])
def test_members_come_and_go_and_partitions_move_as_little_as_they_must(target, name, settings):
    create_topic(target, name, partitions=6)
    with Member(target, name, [name], **settings) as first, Member(target, name, [name], **settings) as second:
        wait_for(lambda: shared([3, 3], first, second), "three partitions for each of two", 60)
        before = [first.partitions(), second.partitions()]
        with Member(target, name, [name], **settings) as third:
            wait_for(lambda: shared([2, 2, 2], first, second, third), "two for each of three", 60)
            after = [first.partitions(), second.partitions()]
            assert all(now < then for now, then in zip(after, before)), "who stays only gives up"
            group = described(target, name)
            assert group.state.name == "STABLE" and len(group.members) == 3
            assert group.partition_assignor == settings.get("partition.assignment.strategy", "uniform")
            sender = producer(target)
            for partition in range(6):
                produce(sender, name, [b"%d" % number for number in range(20)], partition=partition)
            wait_for(lambda: sum(len(member.read) for member in (first, second, third)) >= 120, "all records to be read", 60)
        wait_for(lambda: shared([3, 3], first, second), "three partitions for each of two again", 60)
    read = sorted(first.read + second.read + third.read)
    assert read == [(partition, offset) for partition in range(6) for offset in range(20)]
    client = plain(target, name)
    committed = client.committed([TopicPartition(name, partition) for partition in range(6)], timeout=10)
    assert {part.offset for part in committed} == {20}
    client.close()


def test_a_killed_member_is_missed_after_its_session(target, name):
    create_topic(target, name, partitions=4)
    lonely = subprocess.Popen([sys.executable, "-c", LONELY, target.bootstrap, name, name], stdout=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: lonely.stdout.readline() == "4\n", "all partitions for the first", 60)
        with Member(target, name, [name]) as survivor:
            wait_for(lambda: len(survivor.held) == 2, "half of the partitions", 60)
            lonely.kill()
            wait_for(lambda: shared([4], survivor), "all partitions for the survivor", 60)
            assert len(described(target, name).members) == 1
    finally:
        lonely.kill()
        lonely.wait()


def test_an_expression_is_evaluated_by_the_broker(target, name):
    for topic in (f"{name}-a", f"{name}-b", f"other-{name}-c"):
        create_topic(target, topic, partitions=1)
    with Member(target, name, [f"^{name}-.*"]) as reader:
        wait_for(lambda: reader.topics() == {f"{name}-a", f"{name}-b"}, "both topics that match", 60)
        create_topic(target, f"{name}-d", partitions=1)
        wait_for(lambda: reader.topics() == {f"{name}-{letter}" for letter in "abd"}, "a topic that came later", 90)


def test_a_static_member_comes_back_to_its_partitions(target, name):
    create_topic(target, name, partitions=4)
    with Member(target, name, [name], **{"group.instance.id": "one"}) as stays:
        with Member(target, name, [name], **{"group.instance.id": "two"}) as leaves:
            wait_for(lambda: shared([2, 2], stays, leaves), "two partitions each", 60)
            had = leaves.partitions()
        with Member(target, name, [name], **{"group.instance.id": "two"}) as again:
            wait_for(lambda: again.partitions() == had, "the same partitions", 60)
            assert len(stays.held) == 2


def test_kafkas_own_consumer_and_tools(target, name):
    create_topic(target, name, partitions=2)
    produce(producer(target), name, [b"%d" % number for number in range(10)], partition=0)
    server = ("--bootstrap-server", target.bootstrap)
    protocol = ("--command-property", "group.protocol=consumer", "--command-property", "auto.offset.reset=earliest")
    got = tools.run(tools.CONSOLE_CONSUMER, *server, "--topic", name, "--group", name, *protocol, "--max-messages", "10", "--timeout-ms", "30000")
    assert got.split() == [str(number) for number in range(10)]
    listed = tools.run(tools.GROUPS, *server, "--list", "--type", "consumer")
    assert name in listed.split()
    assert name not in tools.run(tools.GROUPS, *server, "--list", "--type", "classic").split()
    rows = tools.table(tools.run(tools.GROUPS, *server, "--describe", "--group", name), "GROUP")
    assert {(row["PARTITION"], row["CURRENT-OFFSET"], row["LAG"]) for row in rows} >= {("0", "10", "0")}
    assert "Empty" in tools.run(tools.GROUPS, *server, "--describe", "--group", name, "--state")
    tools.run(tools.GROUPS, *server, "--delete-offsets", "--group", name, "--topic", f"{name}:0")
    tools.run(tools.GROUPS, *server, "--delete", "--group", name)
    wait_for(lambda: name not in tools.run(tools.GROUPS, *server, "--list").split(), "the group to be gone", 30)


def test_a_group_passes_from_one_protocol_to_the_other_when_it_is_empty(target, name):
    create_topic(target, name, partitions=1)
    produce(producer(target), name, [b"%d" % number for number in range(6)])
    for count, protocol in ((2, "classic"), (2, "consumer"), (2, "classic")):
        client = plain(target, name, **{"group.protocol": protocol})
        client.subscribe([name])
        messages = poll(client, count, 60)
        client.commit(messages[count - 1], asynchronous=False)
        client.close()
    assert [json.loads(message.value()) for message in messages[:2]] == [4, 5]


def groups_of(target, kind: str) -> list[str]:
    return tools.run(tools.GROUPS, "--bootstrap-server", target.bootstrap, "--list", "--type", kind).split()


def test_a_group_rolls_from_one_protocol_to_the_other_and_back_without_a_stop(target, name):
    create_topic(target, name, partitions=6)
    sender, members, rounds = producer(target), [], []

    def begin(**settings) -> Member:
        member = Member(target, name, [name], **settings).__enter__()
        members.append(member)
        return member

    def read_more() -> None:
        rounds.append(20)
        for partition in range(6):
            produce(sender, name, [b"%d" % number for number in range(20)], partition=partition)
        wait_for(lambda: sum(len(member.read) for member in members) >= 6 * sum(rounds), "all records to be read", 60)

    try:
        old = [begin(**COOPERATIVE), begin(**COOPERATIVE)]
        wait_for(lambda: shared([3, 3], *old), "three partitions for each of two", 60)
        read_more()
        new = begin()
        wait_for(lambda: shared([2, 2, 2], *old, new), "two partitions for each, one of them new", 60)
        assert name in groups_of(target, "consumer") and name not in groups_of(target, "classic")
        read_more()
        old[0].__exit__()
        newer = begin()
        wait_for(lambda: shared([2, 2, 2], old[1], new, newer), "two partitions for each, two of them new", 60)
        read_more()
        old[1].__exit__()
        wait_for(lambda: shared([3, 3], new, newer), "three partitions for each, both new", 60)
        read_more()
        back = begin(**COOPERATIVE)
        wait_for(lambda: shared([2, 2, 2], new, newer, back), "two partitions for each, one of them back", 60)
        new.__exit__()
        newer.__exit__()
        wait_for(lambda: shared([6], back), "all partitions for the one that is back", 60)
        assert name in groups_of(target, "classic") and name not in groups_of(target, "consumer")
        read_more()
    finally:
        for member in members:
            if not member.done.is_set():
                member.__exit__()
    read = sorted(place for member in members for place in member.read)
    assert read == [(partition, offset) for partition in range(6) for offset in range(sum(rounds))]


def test_kafkas_own_consumers_roll_to_the_consumer_protocol(target, name, tmp_path):
    create_topic(target, name, partitions=4)
    server = ("--bootstrap-server", target.bootstrap, "--topic", name)
    started = []

    def begin(*how: str):
        log = tmp_path / f"member{len(started)}.log"
        started.append(tools.start(tools.VERIFIABLE_CONSUMER, *server, "--group-id", name, "--reset-policy", "earliest", "--verbose", *how, log=log))
        return started[-1]

    def events(child, kind: str) -> list[dict]:
        return [event for event in map(json.loads, [line for line in child.lines if line.startswith("{")]) if event["name"] == kind]

    def holds(child) -> set[int]:
        """What it has by its own word: assigned and not revoked since."""
        held = set()
        for line in [line for line in child.lines if line.startswith("{")]:
            event = json.loads(line)
            places = {place["partition"] for place in event.get("partitions", []) if isinstance(place, dict)}
            if event["name"] == "partitions_assigned":
                held |= places
            elif event["name"] == "partitions_revoked":
                held -= places
        return held

    def share(*children) -> bool:
        held = [partition for child in children for partition in holds(child)]
        return sorted(held) == [0, 1, 2, 3] and all(map(holds, children))

    def write(count: int) -> None:
        tools.run(tools.VERIFIABLE_PRODUCER, *server, "--max-messages", str(count), "--acks", "-1")

    def all_read(count: int) -> bool:
        return len({(event["partition"], event["offset"]) for child in started for event in events(child, "record_data")}) >= count

    try:
        first, second = begin("--group-protocol", "classic"), begin("--group-protocol", "classic")
        wait_for(lambda: share(first, second), "both to have partitions", 60)
        write(400)
        wait_for(lambda: all_read(400), "400 records to be read", 60)
        first.stop()
        third = begin("--group-protocol", "consumer")
        wait_for(lambda: share(second, third), "an old and a new member to share", 90)
        write(400)
        wait_for(lambda: all_read(800), "800 records to be read", 60)
        second.stop()
        wait_for(lambda: share(third), "the new one to have all", 60)
        write(400)
        wait_for(lambda: all_read(1200), "1200 records to be read", 60)
        rows = tools.table(tools.run(tools.GROUPS, "--bootstrap-server", target.bootstrap, "--describe", "--group", name), "GROUP")
        assert len(rows) == 4 and name in groups_of(target, "consumer")
    finally:
        for child in started:
            child.stop()
