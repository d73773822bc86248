"""confluent-kafka 2.16 on a current librdkafka: administration, codecs, groups, positions."""

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, OffsetSpec, ResourceType

from harness.waiting import wait_for
from traffic import admin, consumer, create_topic, poll, produce, producer, read_all

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def test_topic_administration(target, name):
    create_topic(target, name, partitions=2, config={"retention.ms": "3600000"})
    client = admin(target)
    assert len(client.list_topics(name, timeout=10).topics[name].partitions) == 2

    with pytest.raises(KafkaException) as refused:
        create_topic(target, name)
    assert refused.value.args[0].name() == "TOPIC_ALREADY_EXISTS"
    with pytest.raises(KafkaException) as refused:
        create_topic(target, "../x")
    assert refused.value.args[0].name() == "TOPIC_EXCEPTION"

    resource = ConfigResource(ResourceType.TOPIC, name)
    (future,) = client.describe_configs([resource]).values()
    configs = future.result(30)
    assert configs["retention.ms"].value == "3600000" and not configs["retention.ms"].is_default
    assert {"cleanup.policy", "segment.bytes", "max.message.bytes", "min.insync.replicas", "compression.type"} <= set(configs)
    assert configs["cleanup.policy"].value == "delete" and configs["cleanup.policy"].is_default

    (future,) = client.create_partitions([NewPartitions(name, 5)], operation_timeout=20).values()
    future.result(30)
    wait_for(lambda: len(client.list_topics(name, timeout=10).topics[name].partitions) == 5, "five partitions in the metadata")

    (future,) = client.delete_topics([name], operation_timeout=20).values()
    future.result(30)
    wait_for(lambda: name not in client.list_topics(timeout=10).topics, "the topic to be gone from the metadata")


def test_configs_change_one_by_one_and_take_hold(target, name):
    create_topic(target, name, partitions=1)
    client = admin(target)

    def alter(*entries):
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=list(entries))
        (future,) = client.incremental_alter_configs([resource]).values()
        return future.result(30)

    def described():
        (future,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
        return future.result(30)

    entry = ConfigEntry
    alter(
        entry("max.message.bytes", "10000", incremental_operation=AlterConfigOpType.SET),
        entry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND),
    )
    configs = described()
    assert configs["max.message.bytes"].value == "10000" and not configs["max.message.bytes"].is_default
    assert configs["cleanup.policy"].value == "delete,compact"
    with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE|Message size too large|larger"):
        produce(producer(target, **{"message.max.bytes": 2_000_000}), name, [b"x" * 100_000], key=b"k")
    alter(entry("max.message.bytes", None, incremental_operation=AlterConfigOpType.DELETE))
    assert described()["max.message.bytes"].is_default
    produce(producer(target, **{"message.max.bytes": 2_000_000}), name, [b"x" * 100_000], key=b"k")

    for name_of_config, value in [("no.such.config", "1"), ("retention.ms", "soon")]:
        with pytest.raises(KafkaException) as refused:
            alter(entry(name_of_config, value, incremental_operation=AlterConfigOpType.SET))
        assert refused.value.args[0].name() == "INVALID_CONFIG"


def test_the_cluster_describes_itself(target):
    client = admin(target)
    described = client.describe_cluster(request_timeout=10).result(30)
    assert described.cluster_id
    assert described.controller is not None
    assert len({node.id for node in described.nodes}) == len(described.nodes) >= 1


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("idempotent", [False, True])
def test_what_is_produced_is_consumed(target, name, codec, idempotent):
    create_topic(target, name, partitions=1)
    values = [f"value {number} compresses, compresses, compresses".encode() for number in range(3000)]
    sender = producer(target, **{"compression.type": codec, "enable.idempotence": idempotent})
    delivered = produce(sender, name, values, key=b"\x00key", headers=[("trace", b"\xff\x00"), ("none", None)])
    assert [message.offset() for message in delivered] == list(range(3000))
    read = read_all(target.bootstrap, name)
    assert [message.value() for message in read] == values
    assert [message.offset() for message in read] == list(range(3000))
    assert all(message.key() == b"\x00key" and message.headers() == [("trace", b"\xff\x00"), ("none", None)] for message in read)


def test_an_empty_value_and_a_tombstone_differ(target, name):
    create_topic(target, name, partitions=1)
    produce(producer(target), name, [b"", None], key=b"k")
    assert [message.value() for message in read_all(target.bootstrap, name)] == [b"", None]


def test_a_record_above_the_limit_is_refused_and_the_producer_goes_on(target, name):
    create_topic(target, name, partitions=1, config={"max.message.bytes": "10000"})
    sender = producer(target, **{"message.max.bytes": 2_000_000})
    with pytest.raises(AssertionError, match="MSG_SIZE_TOO_LARGE|Message size too large|larger"):
        produce(sender, name, [b"x" * 100_000])
    produce(sender, name, [b"small"])
    assert [message.value() for message in read_all(target.bootstrap, name)] == [b"small"]


def test_two_members_share_a_group_and_one_takes_over(target, name):
    create_topic(target, name, partitions=4)
    first, second = consumer(target, name), consumer(target, name)
    first.subscribe([name])
    second.subscribe([name])
    try:

        def balanced():
            for member in (first, second):
                assert member.poll(0.05) is None
            return sorted(len(member.assignment()) for member in (first, second)) == [2, 2]

        wait_for(balanced, "two partitions for each member", 40)
        held = [{entry.partition for entry in member.assignment()} for member in (first, second)]
        assert held[0] | held[1] == {0, 1, 2, 3}

        client = admin(target)
        (future,) = client.describe_consumer_groups([name]).values()
        described = future.result(30)
        assert described.state.name == "STABLE" and len(described.members) == 2

        sender = producer(target)
        for partition in range(4):
            produce(sender, name, [b"%d" % number for number in range(50)], partition=partition)
        for member in (first, second):
            poll(member, 100)
            member.commit(asynchronous=False)
        second.close()

        def alone():
            assert first.poll(0.05) is None
            return len(first.assignment()) == 4

        wait_for(alone, "the remaining member to hold all", 40)
        for partition in range(4):
            produce(sender, name, [b"again"], partition=partition)
        # Committed positions hold: nothing of the first round comes again.
        assert {message.value() for message in poll(first, 4)} == {b"again"}
    finally:
        first.close()


def test_commits_carry_metadata_and_lag_is_their_distance(target, name):
    create_topic(target, name, partitions=1)
    produce(producer(target), name, [b"%d" % number for number in range(10)])
    member = consumer(target, name)
    member.assign([TopicPartition(name, 0, 0)])
    poll(member, 10)
    member.commit(offsets=[TopicPartition(name, 0, 4, "a note")], asynchronous=False)
    (committed,) = member.committed([TopicPartition(name, 0)], timeout=10)
    assert (committed.offset, committed.metadata) == (4, "a note")
    low, high = member.get_watermark_offsets(TopicPartition(name, 0), timeout=10)
    assert (low, high - committed.offset) == (0, 6)
    member.close()

    client = admin(target)
    (future,) = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)]).values()
    assert [(entry.topic, entry.offset) for entry in future.result(30).topic_partitions] == [(name, 4)]
    groups = client.list_consumer_groups(request_timeout=10).result(30)
    assert name in {group.group_id for group in groups.valid}


def test_a_static_member_keeps_its_partitions_over_a_restart(target, name):
    create_topic(target, name, partitions=2)
    settings = {"group.instance.id": "one", "session.timeout.ms": 30000}
    first = consumer(target, name, **settings)
    first.subscribe([name])
    wait_for(lambda: first.poll(0.05) is None and len(first.assignment()) == 2, "an assignment", 40)
    first.close()
    again = consumer(target, name, **settings)
    again.subscribe([name])
    # Without static membership the old member would hold its partitions until its session ends.
    wait_for(lambda: again.poll(0.05) is None and len(again.assignment()) == 2, "the assignment again", 10)
    again.close()


def test_deleted_records_move_the_start(target, name):
    create_topic(target, name, partitions=1)
    produce(producer(target), name, [b"%d" % number for number in range(10)])
    client = admin(target)
    (future,) = client.delete_records([TopicPartition(name, 0, 6)]).values()
    assert future.result(30).low_watermark == 6
    (future,) = client.list_offsets({TopicPartition(name, 0): OffsetSpec.earliest()}).values()
    assert future.result(30).offset == 6
    assert [message.value() for message in read_all(target.bootstrap, name)] == [b"6", b"7", b"8", b"9"]


def test_offsets_by_time(target, name):
    create_topic(target, name, partitions=1)
    sender = producer(target)
    for at_ms in (1_000_000, 2_000_000, 3_000_000):
        produce(sender, name, [b"%d" % at_ms], timestamp=at_ms)
    client = admin(target)

    def at(spec):
        (future,) = client.list_offsets({TopicPartition(name, 0): spec}).values()
        return future.result(30).offset

    assert at(OffsetSpec.for_timestamp(1_500_000)) == 1
    assert at(OffsetSpec.for_timestamp(3_000_000)) == 2
    assert at(OffsetSpec.for_timestamp(3_000_001)) == -1
    assert at(OffsetSpec.max_timestamp()) == 2
    assert at(OffsetSpec.latest()) == 3


def test_an_offset_out_of_range_is_reset(target, name):
    create_topic(target, name, partitions=1)
    produce(producer(target), name, [b"only"])
    member = consumer(target, name)
    member.assign([TopicPartition(name, 0, 1000)])
    assert [message.value() for message in poll(member, 1)] == [b"only"]
    member.close()
