"""Transactions with librdkafka."""

import pytest
from confluent_kafka import KafkaException, TopicPartition

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
