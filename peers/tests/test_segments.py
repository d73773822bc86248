"""Kafka 4.2's DumpLogSegments on the files the target wrote: batches, checksums, records, indexes."""

import re
import shutil

import pytest

from harness import tools
from harness.waiting import wait_for
from traffic import consumer, create_topic, poll, produce, producer

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def dump(files, *arguments) -> str:
    """What the tool prints; it complains about indexes on standard error and still ends with 0."""
    return tools.run(tools.DUMP_LOG, *arguments, "--files", ",".join(str(file) for file in files), errors=True)


@pytest.fixture(scope="module")
def segments(target):
    """A topic with records of every codec in several segments."""
    topic = "dumped"
    create_topic(target, topic, partitions=1, config={"segment.bytes": "1048576", "index.interval.bytes": "4096"})
    for codec in CODECS:
        sender = producer(target, **{"compression.type": codec, "enable.idempotence": True, "batch.size": 20_000})
        # Not compressible, so that every codec fills its share of segments.
        produce(sender, topic, [bytes((number * 7 + place * place * 31) % 251 for place in range(200)) + b"%d" % number for number in range(3000)], key=codec.encode())
    folder = target.partition_folder(topic, 0)
    logs = sorted(folder.glob("*.log"))
    assert len(logs) > 1, "the test wants more than one segment"
    return logs


def test_every_record_of_every_codec_is_read(segments):
    out = dump(segments, "--deep-iteration", "--print-data-log")
    offsets = [int(found) for found in re.findall(r"^\| offset: (\d+) ", out, re.MULTILINE)]
    assert offsets == list(range(3000 * len(CODECS)))
    assert "isvalid: false" not in out
    assert {found.lower() for found in re.findall(r"compresscodec: (\w+)", out)} == set(CODECS)


COMPLAINTS = ("Mismatches", "Non-consecutive", "mismatch", "out of order")


def index_complaints(indexes) -> list[str]:
    out = dump(indexes, "--verify-index-only")
    return [line for line in out.splitlines() if any(complaint in line for complaint in COMPLAINTS)]


def test_indexes_lead_to_the_batches_they_name(segments):
    indexes = [log.with_suffix(suffix) for log in segments[:-1] for suffix in (".index", ".timeindex")]
    assert all(index.stat().st_size > 0 for index in indexes)
    assert index_complaints(indexes) == []
    assert "passed sanity check" in dump(indexes, "--index-sanity-check")


def test_a_wrong_index_entry_is_complained_about(segments, tmp_path):
    """The check above would be worth nothing if DumpLogSegments kept quiet."""
    for suffix in (".log", ".index"):
        shutil.copy(segments[0].with_suffix(suffix), tmp_path)
    (index,) = tmp_path.glob("*.index")
    entry = bytearray(index.read_bytes())
    # The second entry's offset, relative to the segment: far beyond the batch at its position.
    entry[8:12] = (int.from_bytes(entry[8:12]) + 100_000).to_bytes(4)
    index.write_bytes(entry)
    assert index_complaints([index]) != []


def test_a_cleaned_log_is_read(target, name):
    config = {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01"}
    create_topic(target, name, partitions=1, config=config)
    sender = producer(target, **{"enable.idempotence": True})
    # Three and a half segments of three keys, none of which can be compressed away.
    for number in range(0, 3500, 3):
        for key in (b"a", b"b", b"c"):
            sender.produce(name, bytes((number * 7 + place * place * 31) % 251 for place in range(1000)) + b" %d" % number, key=key)
        sender.poll(0)
    assert sender.flush(60) == 0
    folder = target.partition_folder(name, 0)

    def records() -> list[tuple[int, str]]:
        logs = sorted(folder.glob("*.log"))
        out = dump(logs, "--deep-iteration", "--print-data-log")
        assert "isvalid: false" not in out
        return [(int(offset), key) for offset, key in re.findall(r"^\| offset: (\d+) .*?key: (\w)", out, re.MULTILINE)]

    # What is left of the cleaned part is one record of each key; the newest segment is never cleaned.
    wait_for(lambda: len(records()) < 1500, "a cleaning", 90)
    found = records()
    assert [offset for offset, _ in found] == sorted({offset for offset, _ in found})
    assert [key for _, key in found[-3:]] == ["a", "b", "c"]
    indexes = [log.with_suffix(suffix) for log in sorted(folder.glob("*.log"))[:-1] for suffix in (".index", ".timeindex")]
    assert index_complaints(indexes) == []


def dump_internal(target, topic: str, name: str, decoder: str) -> str:
    """What the decoder makes of the partitions of an internal topic that hold the name; every one is dumped, as an operator would."""
    out = ""
    for partition in range(50):
        try:
            folder = target.partition_folder(topic, partition)
        except AssertionError:
            continue
        for log in folder.glob("*.log"):
            if name.encode() in log.read_bytes():
                out += dump([log], decoder, "--print-data-log")
    return out


def test_group_positions_decode_as_kafkas(target, name):
    create_topic(target, name, partitions=1)
    produce(producer(target), name, [b"a", b"b"])
    member = consumer(target, name)
    member.subscribe([name])
    poll(member, 2)
    member.commit(asynchronous=False)
    member.close()
    out = dump_internal(target, "__consumer_offsets", name, "--offsets-decoder")
    assert re.search(rf'"group":"{name}".*"topic":"{name}".*"offset":2\b', out), out
    # The group's own record, as it was with its member and as it is without.
    generations = re.findall(rf'"group":"{name}"}}.*payload: .*"protocolType":"consumer","generation":(\d+).*"members":\[(.*)\]', out)
    assert [bool(members) for _, members in generations] == [True, False], out
    numbers = [int(number) for number, _ in generations]
    assert numbers == sorted(numbers)


# How Kafka numbers the states of a transactional id.
EMPTY, ONGOING, PREPARE_COMMIT, PREPARE_ABORT, COMPLETE_COMMIT, COMPLETE_ABORT = range(6)


def test_transactions_decode_as_kafkas(target, name):
    create_topic(target, name, partitions=1)
    sender = producer(target, **{"transactional.id": name, "transaction.timeout.ms": 60_000})
    sender.init_transactions(30)
    for end in (sender.commit_transaction, sender.abort_transaction):
        sender.begin_transaction()
        sender.produce(name, b"one")
        assert sender.flush(30) == 0
        end(30)

    def states() -> list[int]:
        out = dump_internal(target, "__transaction_state", name, "--transaction-log-decoder")
        records = [line for line in out.splitlines() if f'"transactionalId":"{name}"' in line]
        found = [int(re.search(r'"transactionStatus":(\d)', line)[1]) for line in records]
        for line, state in zip(records, found):
            assert ('"partitionIds":[0]' in line and f'"topic":"{name}"' in line) == (state in (ONGOING, PREPARE_COMMIT, PREPARE_ABORT)), line
            assert '"transactionTimeoutMs":60000' in line, line
        return found

    # The last one is written after the markers, when the producer has its answer.
    wait_for(lambda: COMPLETE_ABORT in states(), "the abort to be complete", 30)
    assert states() == [EMPTY, ONGOING, PREPARE_COMMIT, COMPLETE_COMMIT, ONGOING, PREPARE_ABORT, COMPLETE_ABORT]
