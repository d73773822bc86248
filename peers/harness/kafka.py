"""Apache Kafka 4.2 as one process, broker and controller in one (KRaft), on loopback."""

import uuid
import base64
from pathlib import Path

from . import cache
from .process import Child, free_port, listening

# The client-style JVM starts in half the time; on two cores that is most of what the tools cost.
QUICK_JVM = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData"]
QUIET = ["-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]


def java(*command, jvm=()) -> list[str]:
    return ["java", *jvm, *QUIET, "-cp", f"{cache.kafka_libs()}/*", *map(str, command)]


class Kafka:
    """A broker on `port` with its data in `folder`. `fsync` syncs every message before its acknowledgement, as Whimbrel does; `tiered` adds
    LocalTieredStorage (topics then ask for it with `remote.storage.enable`)."""

    def __init__(self, folder: Path, *, port: int | None = None, fsync: bool = False, tiered: bool = False, heap: str = "512m", extra: dict | None = None):
        self.folder = Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.controller_port = free_port()
        self.heap = heap
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.data = self.folder / "data"
        self.child: Child | None = None
        self._settings = self._all_settings(fsync, tiered, extra or {})

    def _all_settings(self, fsync: bool, tiered: bool, extra: dict) -> dict:
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"{extra.get('node.id', 1)}@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.data,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 5,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 5,
            "group.initial.rebalance.delay.ms": 0,
            # Compaction within a test's patience.
            "log.cleaner.backoff.ms": 200,
        }
        if fsync:
            settings["log.flush.interval.messages"] = 1
        if tiered:
            settings |= {
                "remote.log.storage.system.enable": "true",
                "remote.log.storage.manager.class.name": "org.apache.kafka.server.log.remote.storage.LocalTieredStorage",
                "rsm.config.dir": self.folder / "tiered",
                "remote.log.metadata.manager.listener.name": "PLAINTEXT",
                "rlmm.config.remote.log.metadata.topic.replication.factor": 1,
                "remote.log.manager.task.interval.ms": 500,
                "log.retention.check.interval.ms": 500,
            }
        return settings | extra

    def start(self) -> "Kafka":
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._settings.items()))
        log = self.folder / "kafka.log"
        if not (self.data / "meta.properties").exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
            # A leading dash would be read as an option.
            formatter = Child("format", java("kafka.tools.StorageTool", "format", "-t", "w" + cluster[1:], "-c", properties, jvm=QUICK_JVM), log)
            if formatter.wait(60) != 0:
                raise AssertionError(f"StorageTool failed\n{formatter.tail()}")
        # LocalTieredStorage writes a log below the current directory.
        self.child = Child("kafka", java("kafka.Kafka", properties, jvm=[f"-Xmx{self.heap}"]), log, cwd=self.folder)
        self.child.wait_until(lambda: listening(self.port), f"listening on {self.port}")
        return self

    def pid(self) -> int:
        return self.child.pid

    def kill(self) -> None:
        self.child.kill()

    def stop(self) -> None:
        if self.child:
            self.child.stop()
