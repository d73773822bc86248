"""Kafka 4.2's TransactionsCommand: what an operator sees of transactions, and how one that hangs is ended."""

import pytest
from confluent_kafka import Producer

from harness import tools
from harness.waiting import wait_for
from traffic import create_topic, read_all


def run(target, *arguments) -> str:
    return tools.run(tools.TRANSACTIONS, "--bootstrap-server", target.bootstrap, *arguments)


@pytest.fixture
def open_transaction(target, name):
    """A producer with one flushed record in a transaction that is not over."""
    create_topic(target, name, partitions=1)
    sender = Producer({"bootstrap.servers": target.bootstrap, "transactional.id": name, "transaction.timeout.ms": 60_000})
    sender.init_transactions(30)
    sender.begin_transaction()
    sender.produce(name, b"open")
    assert sender.flush(30) == 0
    return sender


def listed(target, name) -> dict | None:
    return next((row for row in tools.table(run(target, "list"), "TransactionalId") if row["TransactionalId"] == name), None)


def test_a_transaction_is_listed_and_described(target, name, open_transaction):
    assert listed(target, name)["TransactionState"] == "Ongoing"
    described = run(target, "describe", "--transactional-id", name)
    assert f"{name}-0" in described and "Ongoing" in described
    producers = tools.table(run(target, "describe-producers", "--topic", name, "--partition", "0"), "ProducerId")
    assert [row["CurrentTransactionStartOffset"] for row in producers] == ["0"]
    open_transaction.commit_transaction(30)
    wait_for(lambda: listed(target, name)["TransactionState"] == "CompleteCommit", "the commit to be complete", 30)
    assert [message.value() for message in read_all(target.bootstrap, name)] == [b"open"]


def test_an_open_transaction_is_aborted_by_hand(target, name, open_transaction):
    run(target, "abort", "--topic", name, "--partition", "0", "--start-offset", "0")
    producers = tools.table(run(target, "describe-producers", "--topic", name, "--partition", "0"), "ProducerId")
    assert [row["CurrentTransactionStartOffset"] for row in producers] == ["None"]
    assert read_all(target.bootstrap, name) == []
