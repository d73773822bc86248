"""`tier export`: a topic or a range of a partition as a Parquet file, read by those who will read it, pyarrow and DuckDB, and compared with what was produced."""

import json
import random
import resource
import subprocess

import duckdb
import pyarrow.parquet
import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME

from harness import cache
from harness.waiting import wait_for
from traffic import create_topic, produce, producer, read_all

TOPIC = "to-export"
BEGUN_MS = 1_700_000_000_000
COUNT = 9_000


@pytest.fixture(scope="module")
def fleet(tiered_target):
    if tiered_target.name != "whimbrel":
        pytest.skip("a verb of ours")
    return tiered_target


def record(number):
    """Key, value and headers with what formats get wrong: nothing, empty, bytes that are no text, a header twice."""
    key = None if number % 5 == 0 else b"" if number % 5 == 1 else b"key-%d" % number
    filling = random.Random(number).randbytes(400)
    value = None if number % 7 == 0 else b"" if number % 7 == 1 else b"\xff\x00%d" % number + filling
    headers = [("trace", b"\xfe%d" % number), ("trace", None), ("", b"")] if number % 3 == 0 else []
    return key, value, headers


def export(fleet, topic, file, *arguments, **more):
    command = [str(cache.whimbrel()), "tier", "export", topic, "--file", str(file), "-o", "json", *map(str, arguments), "--fleet", str(fleet.fleet.data)]
    return subprocess.run(command, capture_output=True, text=True, timeout=180, **more)


def exported(fleet, topic, file, *arguments):
    """What the verb says, and the rows of the file as pyarrow reads them."""
    done = export(fleet, topic, file, *arguments)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["bytes"] == file.stat().st_size and said["file"] == str(file)
    rows = pyarrow.parquet.read_table(file).to_pylist()
    assert said["records"] == len(rows)
    assert [path.name for path in file.parent.iterdir()] == [file.name], "nothing else is left"
    return said, rows


def fields(row):
    """The row as a record: offset, timestamp, key, value, headers."""
    headers = [(header["key"].decode(), header["value"]) for header in row["headers"]]
    return row["offset"], round(row["timestamp"].timestamp() * 1000), row["key"], row["value"], headers


def message_fields(message):
    kind, time_ms = message.timestamp()
    assert kind == TIMESTAMP_CREATE_TIME
    return message.offset(), time_ms, message.key(), message.value(), message.headers() or []


def cool(fleet, topic):
    """Waits until only the active segment is on the local disk."""
    folder = fleet.partition_folder(topic, 0)
    wait_for(lambda: len(list(folder.glob("*.log"))) == 1, "closed segments to leave the local disk", 90, 0.2)
    (active,) = folder.glob("*.log")
    assert int(active.stem) > COUNT // 2, "most of the topic was to be cold"


@pytest.fixture(scope="module")
def committed(fleet):
    """What was committed, with its offsets: every third transaction is aborted. Most of it is in the bucket only."""
    # Its times are of years ago.
    config = {"segment.bytes": "1048576", "local.retention.bytes": "1", "file.delete.delay.ms": "100", "retention.ms": "-1"} | fleet.tiered_topic
    create_topic(fleet, TOPIC, config=config)
    sender = producer(fleet, **{"transactional.id": "to-export", "batch.size": 20_000, "compression.type": "zstd"})
    sender.init_transactions(30)
    kept, failed = [], []
    for begin in range(0, COUNT, 300):
        offsets = {}

        def report(error, message, offsets=offsets):
            (failed.append(error) if error else offsets.setdefault(message.timestamp()[1] - BEGUN_MS, message.offset()))

        sender.begin_transaction()
        for number in range(begin, begin + 300):
            key, value, headers = record(number)
            sender.produce(TOPIC, value, key, partition=0, timestamp=BEGUN_MS + number, headers=headers, on_delivery=report)
            sender.poll(0)
        assert sender.flush(60) == 0 and not failed
        if begin // 300 % 3 == 1:
            sender.abort_transaction(30)
            continue
        sender.commit_transaction(30)
        for number in range(begin, begin + 300):
            key, value, headers = record(number)
            kept.append((offsets[number], BEGUN_MS + number, key, value, headers))
    cool(fleet, TOPIC)
    return kept


def test_pyarrow_reads_what_was_committed(fleet, committed, tmp_path):
    said, rows = exported(fleet, TOPIC, tmp_path / "all.parquet")
    assert [fields(row) for row in rows] == committed
    assert said["partitions"] == [{"partition": 0, "from": 0, "to": committed[-1][0] + 2, "records": len(committed)}], "the last marker is the end"
    consumed = read_all(fleet.bootstrap, TOPIC, **{"isolation.level": "read_committed"})
    assert [message_fields(message) for message in consumed] == committed


def test_a_range_is_that_range(fleet, committed, tmp_path):
    low, high = committed[150][0], committed[-150][0]
    said, rows = exported(fleet, TOPIC, tmp_path / "some.parquet", "--partition", 0, "--from", low, "--to", high)
    assert [fields(row) for row in rows] == [kept for kept in committed if low <= kept[0] < high]
    assert [(part["from"], part["to"]) for part in said["partitions"]] == [(low, high)]


def test_read_uncommitted_has_what_was_aborted(fleet, committed, tmp_path):
    _, rows = exported(fleet, TOPIC, tmp_path / "raw.parquet", "--isolation", "read-uncommitted")
    assert [row["timestamp"].timestamp() * 1000 for row in rows] == [BEGUN_MS + number for number in range(COUNT)]
    assert len({row["offset"] for row in rows}) == COUNT > len(committed)


def test_partitions_follow_one_another(fleet, tmp_path):
    topic = "many-to-export"
    create_topic(fleet, topic, partitions=3)
    sender = producer(fleet, **{"compression.type": "lz4"})
    # The last one stays empty.
    for partition in (1, 0):
        produce(sender, topic, [b"%d" % number for number in range(500)], partition=partition)
    said, rows = exported(fleet, topic, tmp_path / "many.parquet")
    assert [(part["partition"], part["to"], part["records"]) for part in said["partitions"]] == [(0, 500, 500), (1, 500, 500), (2, 0, 0)]
    consumed = sorted(read_all(fleet.bootstrap, topic, partitions=3), key=lambda message: (message.partition(), message.offset()))
    assert [(row["partition"], *fields(row)) for row in rows] == [(message.partition(), *message_fields(message)) for message in consumed]
    about = pyarrow.parquet.read_metadata(tmp_path / "many.parquet")
    assert about.metadata[b"whimbrel.topic"] == topic.encode()


def test_duckdb_reads_it(fleet, committed, tmp_path):
    file = tmp_path / "all.parquet"
    exported(fleet, TOPIC, file)
    asked = 'select "offset", epoch_ms(timestamp), key, value, headers from read_parquet(?) order by "offset"'
    rows = duckdb.execute(asked, [str(file)]).fetchall()
    texts = [(*row[:4], [(bytes(header["key"]).decode(), header["value"]) for header in row[4]]) for row in rows]
    assert texts == committed


def test_offsets_that_compaction_took_are_no_rows(fleet, tmp_path):
    topic = "compacted-to-export"
    config = {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01", "max.compaction.lag.ms": "1000"}
    create_topic(fleet, topic, config=config)
    sender = producer(fleet)
    count = 6_000
    for number in range(count):
        sender.produce(topic, b"%d" % number + bytes(800), b"%d" % (number % 100), partition=0)
        sender.poll(0)
    assert sender.flush(60) == 0
    # What closes the last full segment.
    produce(sender, topic, [bytes(1000)] * 1200, key=b"last")
    wait_for(lambda: len(read_all(fleet.bootstrap, topic)) < count, "the topic to be cleaned", 90, 0.5)
    for attempt in range(10):
        before = [message_fields(message) for message in read_all(fleet.bootstrap, topic)]
        _, rows = exported(fleet, topic, tmp_path / f"{attempt}.parquet")
        after = [message_fields(message) for message in read_all(fleet.bootstrap, topic)]
        (tmp_path / f"{attempt}.parquet").unlink()
        if before == after:
            break
    else:
        pytest.fail("the topic is cleaned without end")
    assert [fields(row) for row in rows] == before
    offsets = [row["offset"] for row in rows]
    assert offsets == sorted(offsets) and len(offsets) < offsets[-1]


def test_what_cannot_be_is_refused_and_nothing_is_left(fleet, committed, tmp_path):
    end = committed[-1][0] + 2
    for arguments in (["--to", end + 1], ["--from", end + 1], ["--from", 20, "--to", 10]):
        refused = export(fleet, TOPIC, tmp_path / "file", "--partition", 0, *arguments)
        assert refused.returncode == 11 and f"which holds 0..{end}" in refused.stderr, refused.stderr
    unknown = export(fleet, "no-such-topic", tmp_path / "file")
    assert unknown.returncode == 1 and "does not exist" in unknown.stderr, unknown.stderr
    nowhere = export(fleet, TOPIC, tmp_path / "no" / "file")
    assert nowhere.returncode == 1 and "No such file or directory" in nowhere.stderr, nowhere.stderr
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("precious")
    refused = export(fleet, TOPIC, tmp_path / "file")
    assert refused.returncode == 11 and "--overwrite" in refused.stderr, refused.stderr
    assert (tmp_path / "file").read_text() == "precious"
    exported(fleet, TOPIC, tmp_path / "file", "--overwrite")


def test_a_full_disk_leaves_no_half_file(fleet, committed, tmp_path):
    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    # Signals stay as Python has them: what is too large is an error of the write, as on a disk that is full.
    failed = export(fleet, TOPIC, tmp_path / "file", preexec_fn=full, restore_signals=False)
    assert failed.returncode == 1 and "File too large" in failed.stderr, failed.stderr
    assert list(tmp_path.iterdir()) == []
