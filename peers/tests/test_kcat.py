"""kcat 1.7.1 on librdkafka 2.0.2: an old client, as people have it installed."""

import json
import subprocess
import time

import pytest

from harness.waiting import wait_for
from traffic import create_topic

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def kcat(target, *arguments, stdin: bytes = b"", deadline_s: float = 30) -> bytes:
    done = subprocess.run(["kcat", "-b", target.bootstrap, *map(str, arguments)], input=stdin, capture_output=True, timeout=deadline_s, check=False)
    assert done.returncode == 0, f"kcat {arguments}: {done.returncode}\n{done.stderr.decode(errors='replace')}"
    return done.stdout


def consume(target, topic, *arguments) -> bytes:
    return kcat(target, "-q", "-C", "-t", topic, "-e", "-X", "check.crcs=true", *arguments)


def test_metadata_lists_a_created_topic(target, name):
    create_topic(target, name, partitions=3)
    answer = json.loads(kcat(target, "-L", "-J", "-t", name))
    (topic,) = answer["topics"]
    assert topic["topic"] == name
    assert sorted(entry["partition"] for entry in topic["partitions"]) == [0, 1, 2]
    assert {entry["leader"] for entry in topic["partitions"]} <= {broker["id"] for broker in answer["brokers"]}


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_produced_is_consumed(target, name, codec):
    create_topic(target, name, partitions=1)
    lines = b"".join(b"line %d of some text that compresses, compresses, compresses\n" % number for number in range(2000))
    kcat(target, "-P", "-t", name, "-z", codec, "-X", "acks=all", stdin=lines)
    assert consume(target, name, "-o", "beginning") == lines


def test_keys_headers_and_tombstones_come_back(target, name):
    create_topic(target, name, partitions=1)
    kcat(target, "-P", "-t", name, "-K", "|", "-H", "trace=a1", "-H", "empty=", stdin=b"k1|v1\nk2|v2\n")
    kcat(target, "-P", "-t", name, "-K", "|", "-Z", stdin=b"k1|\n")
    out = consume(target, name, "-o", "beginning", "-f", "%o %k %s %S %h\\n").decode().splitlines()
    assert out == ["0 k1 v1 2 trace=a1,empty=", "1 k2 v2 2 trace=a1,empty=", "2 k1  -1 "]


def test_offsets_by_position_and_by_time(target, name):
    create_topic(target, name, partitions=1)
    kcat(target, "-P", "-t", name, stdin=b"a\nb\nc\n")
    now_ms = int(time.time() * 1000)
    # Kafka's clock and ours tick in milliseconds: the next records must carry a later one.
    wait_for(lambda: int(time.time() * 1000) > now_ms + 5, "the clock to move on", 1)
    kcat(target, "-P", "-t", name, stdin=b"d\ne\n")
    assert consume(target, name, "-o", "-2") == b"d\ne\n"
    assert consume(target, name, "-o", "1", "-c", "2") == b"b\nc\n"
    assert kcat(target, "-Q", "-t", f"{name}:0:{now_ms + 1}").decode().split() == [name, "[0]", "offset", "3"]
    assert consume(target, name, "-o", f"s@{now_ms + 1}") == b"d\ne\n"


def test_a_group_starts_where_the_last_member_stopped(target, name):
    create_topic(target, name, partitions=1)
    kcat(target, "-P", "-t", name, stdin=b"a\nb\nc\nd\n")
    group = ["-q", "-G", f"{name}-group", "-X", "auto.offset.reset=earliest", "-X", "session.timeout.ms=6000"]
    # -c ends the member after so many messages; its position is committed when it leaves.
    assert kcat(target, *group, "-c", "2", name) == b"a\nb\n"
    assert kcat(target, *group, "-c", "2", name) == b"c\nd\n"
