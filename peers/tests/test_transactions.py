"""Transactions: librdkafka, the Java client with an epoch for every transaction, and Kafka's tool for transactions."""

import pytest
from confluent_kafka import KafkaException, TopicPartition

from harness import tools
from harness.waiting import wait_for
from traffic import consumer, create_topic, poll, produce, producer


def transactional(target, name: str, **settings):
    made = producer(target, **{"transactional.id": name} | settings)
    made.init_transactions(30)
    return made


def committed(target, topic: str, count: int) -> list:
    client = consumer(target, f"{topic}-readers", **{"isolation.level": "read_committed"})
    client.assign([TopicPartition(topic, 0, 0)])
    try:
        return [message.value() for message in poll(client, count)]
    finally:
        client.close()


def test_only_what_is_committed_is_read(target, name):
    create_topic(target, name)
    client = transactional(target, name)
    for number, commit in enumerate([True, False, True]):
        client.begin_transaction()
        produce(client, name, [b"%d" % number])
        client.commit_transaction(30) if commit else client.abort_transaction(30)
    assert committed(target, name, 2) == [b"0", b"2"]


def test_a_second_producer_fences_the_first(target, name):
    create_topic(target, name)
    first = transactional(target, name)
    first.begin_transaction()
    produce(first, name, [b"first"])
    second = transactional(target, name)
    second.begin_transaction()
    produce(second, name, [b"second"])
    second.commit_transaction(30)
    with pytest.raises(KafkaException):
        first.commit_transaction(30)
    assert committed(target, name, 1) == [b"second"]


def copy(target, source: str, target_topic: str, *more) -> str:
    return tools.run(
        tools.TRANSACTIONAL_COPIER, "--broker-list", target.bootstrap, "--input-topic", source, "--input-partition", "0", "--output-topic", target_topic,
        "--consumer-group", source, "--transactional-id", source, "--transaction-size", "20", *more, deadline_s=120,
    )


@pytest.mark.parametrize("more", [[], ["--use-group-metadata", "--group-mode"], ["--enable-random-aborts"]], ids=["plain", "group", "aborts"])
def test_java_copies_exactly_once(target, name, more):
    source, copied = f"{name}-in", f"{name}-out"
    create_topic(target, source)
    create_topic(target, copied)
    values = [b"%d" % number for number in range(200)]
    produce(producer(target), source, values)
    copy(target, source, copied, *more)
    assert committed(target, copied, len(values)) == values
    # The group's positions went with the transactions, so a second run finds nothing to do.
    copy(target, source, copied)
    client = consumer(target, f"{copied}-readers", **{"isolation.level": "read_committed"})
    client.assign([TopicPartition(copied, 0, 0)])
    assert [message.value() for message in poll(client, len(values))] == values
    assert client.poll(2) is None
    client.close()


def run(target, *arguments) -> str:
    return tools.run(tools.TRANSACTIONS, "--bootstrap-server", target.bootstrap, *arguments)


def test_kafkas_tool_lists_describes_and_aborts(target, name):
    create_topic(target, name)
    client = transactional(target, name)
    client.begin_transaction()
    produce(client, name, [b"open"])
    (listed,) = [row for row in tools.table(run(target, "list"), "TransactionalId") if row["TransactionalId"] == name]
    assert listed["TransactionState"] == "Ongoing"
    (described,) = tools.table(run(target, "describe", "--transactional-id", name), "CoordinatorId")
    assert described["ProducerId"] == listed["ProducerId"] and described["TopicPartitions"] == f"{name}-0"
    (active,) = tools.table(run(target, "describe-producers", "--topic", name, "--partition", "0"), "ProducerId")
    assert active["ProducerId"] == listed["ProducerId"] and active["CurrentTransactionStartOffset"] == "0"
    run(target, "abort", "--topic", name, "--partition", "0", "--start-offset", "0")

    def ended():
        (row,) = tools.table(run(target, "describe-producers", "--topic", name, "--partition", "0"), "ProducerId")
        return row["CurrentTransactionStartOffset"] in ("None", "-1")

    wait_for(ended, "the transaction to be ended", 30)
