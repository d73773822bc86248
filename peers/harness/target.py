"""What the tests run against: our fleet, or a real Kafka 4.2 broker, with the same face.

A test that passes against `kafka` and fails against `whimbrel` has found a difference of ours, not a mistake of its own."""

from pathlib import Path

from .fleet import Fleet
from .kafka import Kafka
from .stores import Minio

# Of a topic that is made by being asked for: what librdkafka's tests count on.
PARTITIONS = 4
# Who a client is where the target asks it, by SASL's PLAIN in the clear; to be proved again every so often.
USER, PASSWORD = "admin", "of-the-admin"
PROVED_AGAIN_MS = 6000


class KafkaTarget:
    """One Kafka broker, which is always `one_region` and never more `brokers` with `racks`. Its "loss of a region" is kill -9 and a new start on the same port."""

    name = "kafka"
    # Tiering is asked for by the topic, and only where the broker was started with it.
    tiered_topic = {"remote.storage.enable": "true"}

    def __init__(self, folder: Path, tiered: bool = False, auto_create: bool = True, one_region: bool = False, rebalance_delay_ms: int = 0, brokers: int = 1, racks: bool = False, partitions: int = PARTITIONS, least_session_ms: int = 6000, acls: bool = False, sasl: bool = False, node: int = 1, port: int | None = None):
        extra = {"num.partitions": partitions, "auto.create.topics.enable": str(auto_create).lower(), "group.initial.rebalance.delay.ms": rebalance_delay_ms}
        extra["group.min.session.timeout.ms"] = least_session_ms
        extra["node.id"] = node
        if acls:
            extra |= {"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "allow.everyone.if.no.acl.found": "true"}
        if sasl:
            login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
            users = f'{login} username="{USER}" password="{PASSWORD}" user_{USER}="{PASSWORD}";'
            extra |= {"listener.security.protocol.map": "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT", "sasl.enabled.mechanisms": "PLAIN,OAUTHBEARER", "sasl.mechanism.inter.broker.protocol": "PLAIN"}
            extra |= {"listener.name.plaintext.plain.sasl.jaas.config": users, "connections.max.reauth.ms": PROVED_AGAIN_MS}
            # Without a handler of its own it believes tokens that nobody signed.
            extra["listener.name.plaintext.oauthbearer.sasl.jaas.config"] = f"org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"{USER}\";"
            extra["inter.broker.listener.name"] = "PLAINTEXT"
        # Heartbeats and sessions as short as in `whimbrel dev`.
        extra |= {f"group.consumer.{least}{name}.ms": value for least in ("", "min.") for name, value in (("heartbeat.interval", 1000), ("session.timeout", 10000))}
        self.kafka = Kafka(folder, port=port, fsync=True, tiered=tiered, extra=extra)

    def start(self) -> "KafkaTarget":
        self.kafka.start()
        return self

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    def alive(self) -> bool:
        return self.kafka.child.alive()

    def partition_folder(self, topic: str, partition: int) -> Path:
        return self.kafka.data / f"{topic}-{partition}"

    def kill(self) -> None:
        self.kafka.kill()

    def restart(self) -> None:
        """Kills the broker and starts it again; clients must carry on."""
        self.kafka.kill()
        self.kafka.start()

    def fail_over(self) -> int:
        """Loses the broker; returns how many acknowledged records may be lost: none, it syncs every message."""
        self.restart()
        return 0

    def stop(self) -> None:
        self.kafka.stop()


class WhimbrelTarget:
    """Our fleet, at home in east."""

    name = "whimbrel"
    # Every topic is tiered, by default to a folder; a tiered target has MinIO.
    tiered_topic = {}

    def __init__(self, folder: Path, tiered: bool = False, auto_create: bool = True, one_region: bool = False, rebalance_delay_ms: int = 0, brokers: int = 1, racks: bool = False, partitions: int = PARTITIONS, least_session_ms: int = 6000, acls: bool = False, sasl: bool = False, node: int = 1, port: int | None = None):
        self.minio = Minio(folder / "minio") if tiered else None
        bucket = self.minio.bucket("whimbrel") if self.minio else None
        settings = {
            "broker.default-partitions": partitions,
            "broker.auto-create-topics": str(auto_create).lower(),
            "broker.limits.group-initial-rebalance-delay": f"{rebalance_delay_ms}ms",
            "broker.limits.group-min-session-timeout": f"{least_session_ms}ms",
        }
        if node != 1:
            settings |= {"broker.node-id": node, "tiering.node-id": node}
        if racks:
            # Each broker of east has its own, by its id. Further ones are numbered 11, 21..
            settings |= {f"broker-{number}.rack": f"RACK{10 * number - 9}" for number in range(1, brokers + 1)}
        if acls:
            settings |= {"broker.auth.anonymous": "true", "broker.auth.mechanisms": "[]", "broker.auth.allow-everyone-if-no-acl": "true"}
        if sasl:
            settings |= {"broker.auth.mechanisms": '["PLAIN", "OAUTHBEARER"]', "broker.auth.super-users": f'["{USER}"]', "broker.auth.plain-without-tls": "true"}
            settings["broker.auth.oauthbearer.unsecured-tokens"] = "true"
            settings["broker.auth.max-reauth"] = f"{PROVED_AGAIN_MS}ms"
        self.sasl = sasl
        self.fleet = Fleet(folder, port=port, bucket=bucket, env=Minio.credentials() if self.minio else None, settings=settings, one_region=one_region, brokers=brokers)

    def start(self) -> "WhimbrelTarget":
        if self.minio:
            self.minio.start()
        self.fleet.start()
        if self.sasl:
            self.fleet.set_password(USER, PASSWORD)
        return self

    @property
    def bootstrap(self) -> str:
        return self.fleet.bootstrap

    def alive(self) -> bool:
        return self.fleet.alive()

    def partition_folder(self, topic: str, partition: int) -> Path:
        """The partition as east's broker keeps it."""
        found = [path for path in (self.fleet.data / "east").rglob(f"{topic}-{partition}") if path.is_dir()]
        folders = [path for path in found if list(path.glob("*.log"))]
        if len(folders) != 1:
            raise AssertionError(f"expected one folder of {topic}-{partition} in east, found {found}")
        return folders[0]

    def kill(self) -> None:
        self.fleet.kill()

    def restart(self) -> None:
        """Kills the broker of east and starts it again; clients must carry on."""
        self.fleet.restart_broker("east")

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
