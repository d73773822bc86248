"""What the tests run against: our fleet, or a real Kafka 4.2 broker, with the same face.

A test that passes against `kafka` and fails against `whimbrel` has found a difference of ours, not a mistake of its own."""

from pathlib import Path

from .fleet import Fleet
from .kafka import Kafka
from .stores import Minio


class KafkaTarget:
    """One Kafka broker. Its "loss of a region" is kill -9 and a new start on the same port."""

    name = "kafka"
    # Tiering is asked for by the topic, and only where the broker was started with it.
    tiered_topic = {"remote.storage.enable": "true"}

    def __init__(self, folder: Path, tiered: bool = False):
        # Heartbeats and sessions as short as in `whimbrel dev`.
        short = {f"group.consumer.{least}{name}.ms": value for least in ("", "min.") for name, value in (("heartbeat.interval", 1000), ("session.timeout", 10000))}
        self.kafka = Kafka(folder, fsync=True, tiered=tiered, extra={"num.partitions": 4} | short)

    def start(self) -> "KafkaTarget":
        self.kafka.start()
        return self

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    def partition_folder(self, topic: str, partition: int) -> Path:
        return self.kafka.data / f"{topic}-{partition}"

    def fail_over(self) -> int:
        """Loses the broker; returns how many acknowledged records may be lost: none, it syncs every message."""
        self.kafka.kill()
        self.kafka.start()
        return 0

    def stop(self) -> None:
        self.kafka.stop()


class WhimbrelTarget:
    """Our fleet, at home in east."""

    name = "whimbrel"
    # Every topic is tiered, by default to a folder; a tiered target has MinIO.
    tiered_topic = {}

    def __init__(self, folder: Path, tiered: bool = False):
        self.minio = Minio(folder / "minio") if tiered else None
        bucket = self.minio.bucket("whimbrel") if self.minio else None
        self.fleet = Fleet(folder, bucket=bucket, env=Minio.credentials() if self.minio else None)

    def start(self) -> "WhimbrelTarget":
        if self.minio:
            self.minio.start()
        self.fleet.start()
        return self

    @property
    def bootstrap(self) -> str:
        return self.fleet.bootstrap

    def partition_folder(self, topic: str, partition: int) -> Path:
        """The partition as east's broker keeps it."""
        found = [path for path in (self.fleet.data / "east").rglob(f"{topic}-{partition}") if path.is_dir()]
        folders = [path for path in found if list(path.glob("*.log"))]
        if len(folders) != 1:
            raise AssertionError(f"expected one folder of {topic}-{partition} in east, found {found}")
        return folders[0]

    def fail_over(self) -> int:
        """Loses east and moves to west; returns how many acknowledged records may be lost, as the plan said before the move."""
        self.fleet.kill_region("east")
        command = self.fleet.move("failover", "default", "west")
        return int(command[command.index("--accept-loss") + 1])

    def stop(self) -> None:
        self.fleet.stop()
        if self.minio:
            self.minio.stop()


def make(name: str, folder: Path, **options):
    return {"kafka": KafkaTarget, "whimbrel": WhimbrelTarget}[name](folder, **options)
