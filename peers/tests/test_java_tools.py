"""Kafka 4.2's own command line tools: the Java client, and what operators type."""

import json

import pytest

from harness import tools
from harness.waiting import wait_for
from traffic import create_topic, produce, producer

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def run(target, tool, *arguments, **options) -> str:
    return tools.run(tool, "--bootstrap-server", target.bootstrap, *arguments, **options)


def test_topics_are_created_described_grown_and_deleted(target, name):
    run(target, tools.TOPICS, "--create", "--topic", name, "--partitions", "2", "--replication-factor", "1", "--config", "segment.bytes=2097152")
    assert name in run(target, tools.TOPICS, "--list").split()
    described = run(target, tools.TOPICS, "--describe", "--topic", name)
    assert "PartitionCount: 2" in described and "segment.bytes=2097152" in described
    assert described.count("Leader: ") == 2 and "Leader: none" not in described
    run(target, tools.TOPICS, "--alter", "--topic", name, "--partitions", "3")
    wait_for(lambda: "PartitionCount: 3" in run(target, tools.TOPICS, "--describe", "--topic", name), "three partitions", 30)
    run(target, tools.TOPICS, "--delete", "--topic", name)
    wait_for(lambda: name not in run(target, tools.TOPICS, "--list").split(), "the topic to be gone", 30)


@pytest.mark.parametrize("codec", CODECS)
def test_console_producer_and_consumer(target, name, codec):
    create_topic(target, name, partitions=1)
    lines = "".join(f"line {number} compresses, compresses\n" for number in range(500))
    run(target, tools.CONSOLE_PRODUCER, "--topic", name, "--compression-codec", codec, "--command-property", "acks=all", stdin=lines.encode())
    got = run(target, tools.CONSOLE_CONSUMER, "--topic", name, "--from-beginning", "--max-messages", "500", "--timeout-ms", "20000")
    assert got == lines


def test_groups_are_listed_described_and_reset(target, name):
    create_topic(target, name, partitions=1)
    produce(producer(target), name, [b"%d" % number for number in range(10)])
    run(target, tools.CONSOLE_CONSUMER, "--topic", name, "--group", name, "--from-beginning", "--max-messages", "4", "--timeout-ms", "20000")
    assert name in run(target, tools.GROUPS, "--list").split()

    def described():
        (row,) = tools.table(run(target, tools.GROUPS, "--describe", "--group", name), "GROUP")
        return row["CURRENT-OFFSET"], row["LOG-END-OFFSET"], row["LAG"]

    assert described() == ("4", "10", "6")
    assert "Empty" in run(target, tools.GROUPS, "--describe", "--group", name, "--state")
    run(target, tools.GROUPS, "--reset-offsets", "--group", name, "--topic", name, "--to-offset", "1", "--execute")
    assert described() == ("1", "10", "9")


def test_a_groups_positions_are_reset_every_way(target, name):
    # The records are years old.
    create_topic(target, name, partitions=1, config={"retention.ms": "-1"})
    sender = producer(target)
    for number in range(10):
        produce(sender, name, [b"%d" % number], timestamp=1_700_000_000_000 + number * 1000)
    run(target, tools.CONSOLE_CONSUMER, "--topic", name, "--group", name, "--from-beginning", "--max-messages", "10", "--timeout-ms", "20000")

    def reset(*how) -> str:
        out = run(target, tools.GROUPS, "--reset-offsets", "--group", name, "--topic", name, *how, "--execute")
        (row,) = tools.table(out, "GROUP")
        return row["NEW-OFFSET"]

    assert reset("--to-earliest") == "0"
    assert reset("--shift-by", "4") == "4"
    # Kafka's word for a position beyond the end: as far as there is.
    assert reset("--shift-by", "100") == "10"
    assert reset("--to-datetime", "2023-11-14T22:13:23.000") == "3"
    assert reset("--to-latest") == "10"
    assert reset("--shift-by", "-3") == "7"
    assert reset("--to-current") == "7"
    # The newest record is years old: nothing is younger than an hour, and all is younger than twenty years.
    assert reset("--by-duration", "PT1H") == "10"
    assert reset("--by-duration", "P7300D") == "0"
    out = run(target, tools.GROUPS, "--delete-offsets", "--group", name, "--topic", name)
    assert "Successful" in out or "successful" in out
    assert tools.table(run(target, tools.GROUPS, "--describe", "--group", name), "GROUP") == []
    run(target, tools.GROUPS, "--delete", "--group", name)
    assert name not in run(target, tools.GROUPS, "--list").split()


def test_positions_are_reset_from_a_file_and_for_all_topics(target, name, tmp_path):
    topics = [f"{name}-a", f"{name}-b"]
    for topic in topics:
        create_topic(target, topic, partitions=2)
        for partition in range(2):
            produce(producer(target), topic, [b"%d" % number for number in range(5)], partition=partition)
        run(target, tools.CONSOLE_CONSUMER, "--topic", topic, "--group", name, "--from-beginning", "--max-messages", "10", "--timeout-ms", "20000")

    def reset(*how) -> dict[tuple[str, str], str]:
        out = run(target, tools.GROUPS, "--reset-offsets", "--group", name, *how)
        return {(row["TOPIC"], row["PARTITION"]): row["NEW-OFFSET"] for row in tools.table(out, "GROUP")}

    def positions() -> set[str]:
        return {row["CURRENT-OFFSET"] for row in tools.table(run(target, tools.GROUPS, "--describe", "--group", name), "GROUP")}

    everywhere = {(topic, str(partition)) for topic in topics for partition in range(2)}
    planned = reset("--all-topics", "--to-offset", "2", "--dry-run")
    assert set(planned) == everywhere and set(planned.values()) == {"2"}
    assert positions() == {"5"}, "a plan changes nothing"
    assert set(reset("--all-topics", "--to-offset", "2", "--execute").values()) == {"2"}
    assert positions() == {"2"}
    # One partition of one topic, by name.
    assert reset("--topic", f"{topics[0]}:1", "--to-earliest", "--execute") == {(topics[0], "1"): "0"}
    assert positions() == {"0", "2"}
    exported = run(target, tools.GROUPS, "--reset-offsets", "--group", name, "--all-topics", "--to-offset", "4", "--export", "--dry-run")
    file = tmp_path / "positions.csv"
    file.write_text("\n".join(line for line in exported.splitlines() if line.count(",") >= 2) + "\n")
    assert set(reset("--from-file", str(file), "--execute").values()) == {"4"}
    assert positions() == {"4"}


def test_offsets_are_shown(target, name):
    create_topic(target, name, partitions=2)
    produce(producer(target), name, [b"a", b"b", b"c"], partition=1)
    out = run(target, tools.OFFSETS, "--topic", name, "--time", "-1").split()
    assert sorted(out) == [f"{name}:0:0", f"{name}:1:3"]


def test_verifiable_producer_and_a_group_of_two(target, name, tmp_path):
    create_topic(target, name, partitions=4)
    members = [
        tools.start(
            tools.VERIFIABLE_CONSUMER, "--bootstrap-server", target.bootstrap, "--topic", name, "--group-id", name, "--reset-policy", "earliest", "--verbose", log=tmp_path / f"member{number}.log"
        )
        for number in range(2)
    ]

    def events(child, kind):
        return [event for event in map(json.loads, list(child.lines)) if event["name"] == kind]

    def shared():
        latest = [events(member, "partitions_assigned")[-1]["partitions"] for member in members]
        return sorted(map(len, latest)) == [2, 2]

    wait_for(shared, "two partitions for each member", 60)
    out = run(target, tools.VERIFIABLE_PRODUCER, "--topic", name, "--max-messages", "2000", "--acks", "-1")
    sent = [event for event in map(json.loads, out.splitlines()) if event["name"] == "producer_send_success"]
    assert len(sent) == 2000
    wanted = sorted(event["value"] for event in sent)

    def all_there():
        return sorted(event["value"] for member in members for event in events(member, "record_data")) == wanted

    wait_for(all_there, "every record exactly once", 30)
    rows = tools.table(run(target, tools.GROUPS, "--describe", "--group", name), "GROUP")
    assert len(rows) == 4 and len({row["CONSUMER-ID"] for row in rows}) == 2
    for member in members:
        member.stop()


def test_configs_are_altered_and_described(target, name):
    create_topic(target, name, partitions=1)
    topic = ["--entity-type", "topics", "--entity-name", name]
    run(target, tools.CONFIGS, "--alter", *topic, "--add-config", "retention.ms=3600000,cleanup.policy=[compact,delete]")
    described = run(target, tools.CONFIGS, "--describe", *topic)
    assert "retention.ms=3600000" in described and "DYNAMIC_TOPIC_CONFIG:retention.ms=3600000" in described
    assert "cleanup.policy=compact,delete" in described
    assert "Configs: " in run(target, tools.TOPICS, "--describe", "--topic", name)
    run(target, tools.CONFIGS, "--alter", *topic, "--delete-config", "retention.ms")
    assert "retention.ms=3600000" not in run(target, tools.CONFIGS, "--describe", *topic)
    all_of_them = run(target, tools.CONFIGS, "--describe", "--all", *topic)
    assert "retention.ms=604800000" in all_of_them and "segment.jitter.ms=0" in all_of_them
    with pytest.raises(AssertionError, match="no.such.config"):
        run(target, tools.CONFIGS, "--alter", *topic, "--add-config", "no.such.config=1")


def test_configs_of_groups_are_altered_and_described(target, name):
    group = ["--entity-type", "groups", "--entity-name", name]
    run(target, tools.CONFIGS, "--alter", *group, "--add-config", "consumer.session.timeout.ms=50000")
    described = run(target, tools.CONFIGS, "--describe", *group)
    assert "DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000" in described
    assert f"for group {name} are" in run(target, tools.CONFIGS, "--describe", "--entity-type", "groups")
    run(target, tools.CONFIGS, "--alter", *group, "--delete-config", "consumer.session.timeout.ms")
    assert "consumer.session.timeout.ms=50000" not in run(target, tools.CONFIGS, "--describe", *group)
    with pytest.raises(AssertionError, match="no.such.config"):
        run(target, tools.CONFIGS, "--alter", *group, "--add-config", "no.such.config=1")


def test_configs_of_brokers_are_altered_and_described(target, name):
    brokers = ["--entity-type", "brokers", "--entity-default"]
    run(target, tools.CONFIGS, "--alter", *brokers, "--add-config", "background.threads=9,log.cleanup.policy=[delete,compact]")
    described = run(target, tools.CONFIGS, "--describe", *brokers)
    assert "DYNAMIC_DEFAULT_BROKER_CONFIG:background.threads=9" in described
    assert "log.cleanup.policy=delete,compact" in described
    run(target, tools.CONFIGS, "--alter", *brokers, "--delete-config", "background.threads,log.cleanup.policy")
    assert "background.threads" not in run(target, tools.CONFIGS, "--describe", *brokers)
    with pytest.raises(AssertionError, match="node.id"):
        run(target, tools.CONFIGS, "--alter", *brokers, "--add-config", "node.id=7")


def test_client_quotas_are_altered_and_described(target, name):
    client = ["--entity-type", "clients", "--entity-name", name]
    run(target, tools.CONFIGS, "--alter", *client, "--add-config", "producer_byte_rate=1048576,request_percentage=50")
    described = run(target, tools.CONFIGS, "--describe", *client)
    assert "producer_byte_rate=1048576" in described and "request_percentage=50" in described
    run(target, tools.CONFIGS, "--alter", *client, "--delete-config", "producer_byte_rate,request_percentage")
    assert "producer_byte_rate" not in run(target, tools.CONFIGS, "--describe", *client)


def test_the_quorum_and_the_disks_are_described(target, name):
    create_topic(target, name, partitions=1)
    assert "LeaderId:" in run(target, tools.QUORUM, "describe", "--status")
    out = run(target, tools.LOG_DIRS, "--describe", "--topic-list", name)
    (line,) = [line for line in out.splitlines() if line.startswith("{")]
    disks = [disk for broker in json.loads(line)["brokers"] for disk in broker["logDirs"]]
    assert any(entry["partition"] == f"{name}-0" for disk in disks for entry in disk["partitions"])


def test_an_election_that_is_not_needed_says_so(target, name):
    create_topic(target, name, partitions=1)
    out = run(target, tools.ELECTION, "--election-type", "preferred", "--topic", name, "--partition", "0")
    assert "Valid replica already elected" in out
