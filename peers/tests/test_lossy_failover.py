"""A group's consumer whose client had fetched what a failover lost, and had not handed it out yet: it goes on at its commit. After a planned move nobody has to."""

import os
import signal

import pytest
from confluent_kafka import Consumer

from harness.waiting import wait_for
from traffic import admin, create_topic, poll, produce, producer, read_all

KINDS = {
    "classic": {"group.protocol": "classic"},
    "static": {"group.protocol": "classic", "group.instance.id": "one"},
    "consumer": {"group.protocol": "consumer"},
}
OFFSETS = "__consumer_offsets"
SIZE = 1000
# Records that both regions have, of which the first third is committed, and further ones that are lost.
BOTH = 300
LOST = 50


@pytest.fixture
def fleet(own_target):
    if own_target.name == "kafka":
        pytest.skip("one Kafka broker has one region")
    return own_target.fleet


def member_of(target, group: str, kind: str):
    settings = KINDS[kind]
    if settings["group.protocol"] == "classic":
        settings = settings | {"session.timeout.ms": 30_000, "heartbeat.interval.ms": 500}
    common = {"bootstrap.servers": target.bootstrap, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False, "check.crcs": True}
    return Consumer(common | settings)


def values(kind: str, count: int) -> list[bytes]:
    return [f"{kind} {number} ".encode().ljust(SIZE, b"x") for number in range(count)]


def in_step(fleet, topic: str) -> bool:
    return fleet.high_watermarks("east", topic) == fleet.high_watermarks("west", topic)


def has_members(target, group: str) -> bool:
    client = admin(target)
    (future,) = client.describe_consumer_groups([group], request_timeout=10).values()
    return bool(future.result(10).members)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def reading(own_target, fleet, name, kind, assigned):
    """A member that handed out and committed the first third of what both regions have."""
    create_topic(own_target, name)
    produce(producer(own_target), name, values("kept", BOTH))
    member = member_of(own_target, name, kind)
    member.subscribe([name], on_assign=lambda _, partitions: assigned.append(partitions))
    assert [message.offset() for message in poll(member, BOTH // 3)] == list(range(BOTH // 3))
    member.commit(asynchronous=False)
    wait_for(lambda: in_step(fleet, name) and in_step(fleet, OFFSETS), "records and positions in west", 30)
    return member


def test_nothing_is_skipped_after_a_loss(own_target, fleet, name, kind):
    member = reading(own_target, fleet, name, kind, [])
    (mirror,) = [process["pid"] for process in fleet.processes("west") if process["role"] == "mirror"]
    os.kill(mirror, signal.SIGKILL)
    fetched = fleet.sent("east")
    produce(producer(own_target), name, values("lost", LOST))
    wait_for(lambda: fleet.sent("east") >= fetched + LOST * SIZE, "the client to have fetched what is going to be lost", 30)
    own_target.fail_over()
    produce(producer(own_target), name, values("new", BOTH))
    wait_for(lambda: fleet.sent("west") >= BOTH * SIZE or not has_members(own_target, name), "the client to have gone on where the log was cut, if nobody keeps it", 60)

    survivors = read_all(own_target.bootstrap, name)
    end = len(survivors)
    assert [message.value() for message in survivors] == values("kept", BOTH) + values("new", BOTH)
    due, run = set(range(BOTH // 3, end)), []
    while due:
        (message,) = poll(member, 1, 60)
        if run and message.offset() != run[-1].offset() + 1:
            run = []
        run.append(message)
        due.discard(message.offset())
    # Whatever came before: at last everything in order, from the commit on.
    member.commit(asynchronous=False)
    while run[-1].offset() < end - 1:
        run += poll(member, 1, 60)
    assert [message.offset() for message in run] == list(range(BOTH // 3, end))
    assert [message.value() for message in run] == [message.value() for message in survivors[BOTH // 3 :]]
    member.close()


def test_a_planned_move_asks_nobody_to_join_again(own_target, fleet, name, kind):
    assigned = []
    member = reading(own_target, fleet, name, kind, assigned)
    fleet.move("failover", "default", "west", "--planned")
    produce(producer(own_target), name, values("new", BOTH))
    rest = poll(member, 2 * BOTH - BOTH // 3, 60)
    assert [message.offset() for message in rest] == list(range(BOTH // 3, 2 * BOTH))
    # As the same member, in the same generation.
    member.commit(asynchronous=False)
    assert len(assigned) == 1
    member.close()
