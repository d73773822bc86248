"""A topic with `flush.messages` after a power cut: of what was acknowledged and not synced, a page in the middle never reached the disk.
Nobody was given any of it. librdkafka's idempotent producer and a group's consumer, which lived through it, go on over the hole."""

import json
import shutil
import struct
from pathlib import Path

import pytest
from kafka.record.util import calc_crc32c

from harness import target as targets
from harness.waiting import wait_for
from traffic import consumer, create_topic, poll, produce, producer, read_all

PAGE = 4096
BOUND = 1_000_000
SYNCED = 100
EARLY = 400
# Of a batch.
HEADER = 61


@pytest.fixture
def own(request, tmp_path):
    if request.config.getoption("--target") == "kafka":
        pytest.skip("Kafka reads after a power cut what it finds")
    made = targets.make("whimbrel", tmp_path / "target", one_region=True)
    try:
        yield made.start()
    finally:
        made.stop()


def values(kind: str, count: int) -> list[bytes]:
    return [f"{kind} {number} ".encode().ljust(200, b"x") for number in range(count)]


def of_another_boot(early_acks: Path) -> None:
    """As it would be found if the kernel had started again since."""
    lines = early_acks.read_text().splitlines()
    assert lines[1].startswith("boot ") and lines[-1].startswith("crc32c ")
    body = "\n".join([lines[0], "boot another", *lines[2:-1], ""])
    early_acks.write_text(f"{body}crc32c {calc_crc32c(body.encode()):08x}\n")


def batches(log: bytes) -> list[tuple[int, int, int]]:
    """The offset of each, where it begins in the file and where it ends."""
    found, start = [], 0
    while start < len(log):
        offset, length = struct.unpack_from(">qi", log, start)
        found.append((offset, start, start + 12 + length))
        start = found[-1][2]
    return found


class PowerCut:
    """What is on the disk when it is made is synced; of what the partition's log gets later, a page in the middle is lost."""

    def __init__(self, folder: Path, kept: Path):
        self.folder, self.kept = folder, kept
        (self.log,) = folder.glob("*.log")
        self.synced_bytes = self.log.stat().st_size
        shutil.copytree(folder, kept / folder.name)
        for sidecar in filter(Path.is_file, folder.parent.iterdir()):
            shutil.copy(sidecar, kept)

    def happens(self) -> int:
        """Returns the offset of the batch that the page is of; sound ones stand before it and behind it."""
        written = self.log.read_bytes()
        early = [batch for batch in batches(written) if batch[1] >= self.synced_bytes]
        offset, start, end = early[len(early) // 2]
        # The first page that is wholly of its records.
        hole = -(-(start + HEADER) // PAGE) * PAGE
        assert len(early) > 2 and hole + PAGE <= end, early
        # The broker syncs soon, whatever it is asked for: its word for that goes, with all that it wrote beside the log.
        shutil.rmtree(self.folder)
        shutil.copytree(self.kept, self.folder.parent, dirs_exist_ok=True)
        self.log.write_bytes(written[:hole] + bytes(PAGE) + written[hole + PAGE :])
        of_another_boot(self.folder.parent / "early-acks")
        return offset


def status(own) -> dict:
    return json.loads(own.fleet.asked("east", "/status"))


def is_synced(own, name: str, end: int) -> bool:
    """And may acknowledge before the sync from here on, which then stands on the disk."""
    (partition,) = [partition for partition in status(own)["partitions"] if partition["topic"] == name]
    ends = {partition["durable_end"], partition["high_watermark"], partition["log_end"]}
    return ends == {end} and partition["unsynced_bound"] == BOUND


def test_librdkafka_goes_on_over_what_a_power_cut_took(own, name, tmp_path):
    create_topic(own, name, config={"flush.messages": str(BOUND)})
    fatal = []
    writer = producer(own, **{"enable.idempotence": True, "batch.num.messages": 50, "linger.ms": 500, "error_cb": lambda error: fatal.append(error) if error.fatal() else None})
    produce(writer, name, values("synced", SYNCED))
    reader = consumer(own, name, **{"session.timeout.ms": 45_000})
    reader.subscribe([name])
    assert [message.value() for message in poll(reader, SYNCED)] == values("synced", SYNCED)
    reader.commit(asynchronous=False)
    wait_for(lambda: is_synced(own, name, SYNCED), "a sync", 30)
    # From here on it is given nothing: no reader sees what is not synced, and this broker's disk does not wait for the test.
    reader.pause(reader.assignment())
    cut = PowerCut(own.partition_folder(name, 0), tmp_path / "kept")
    acked = produce(writer, name, values("early", EARLY))
    assert [message.offset() for message in acked] == list(range(SYNCED, SYNCED + EARLY))

    more = values("more", 50)
    delivered, failed, cut_at = [], [], []

    def meanwhile() -> None:
        cut_at.append(cut.happens())
        for value in more:
            writer.produce(name, value, on_delivery=lambda error, message: failed.append(error) if error else delivered.append(message))

    own.fleet.restart_broker("east", meanwhile)
    (lost,) = status(own)["early_acks_lost"]
    (end,) = cut_at
    assert (lost["topic"], lost["recovered_end"], lost["set_aside"]) == (name, end, True)
    assert writer.flush(60) == 0 and failed == [] and fatal == []
    assert [message.offset() for message in delivered] == list(range(end, end + len(more)))
    produce(writer, name, values("last", 50))
    due = values("synced", SYNCED) + values("early", end - SYNCED) + more + values("last", 50)
    assert [message.value() for message in read_all(own.bootstrap, name)] == due
    reader.resume(reader.assignment())
    assert [message.value() for message in poll(reader, len(due) - SYNCED, 60)] == due[SYNCED:]
    reader.commit(asynchronous=False)
    reader.close()
