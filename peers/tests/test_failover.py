"""Clients that live through the loss of their broker untouched: the same objects, no restart, no new bootstrap address.

Against `kafka` the loss is kill -9 and a new start; against `whimbrel` it is kill -9 of every process of east and a failover to west."""

import json
import threading
import time

from harness import tools
from harness.waiting import wait_for
from traffic import consumer, create_topic, producer, read_all

BEFORE = 300
AFTER = 300


class Traffic:
    """A producer and a group member on threads of their own. Nothing in here reacts to the failover."""

    def __init__(self, target, topic: str):
        self.topic = topic
        self.acked: list[bytes] = []
        self.failed: list[str] = []
        self.consumed: list[tuple[int, int, bytes]] = []
        self.fatal: list[str] = []
        self._stop = threading.Event()
        self._producer = producer(target, **{"enable.idempotence": True, "error_cb": self._on_error, "message.timeout.ms": 120_000})
        self._member = consumer(target, topic, **{"error_cb": self._on_error})
        self._threads = [threading.Thread(target=self._produce), threading.Thread(target=self._consume)]

    def _on_error(self, error) -> None:
        if error.fatal():
            self.fatal.append(str(error))

    def _on_delivery(self, error, message) -> None:
        if error:
            self.failed.append(str(error))
        else:
            self.acked.append(message.value())

    def _produce(self) -> None:
        number = 0
        while not self._stop.is_set():
            self._producer.produce(self.topic, b"%d" % number, key=b"%d" % number, on_delivery=self._on_delivery)
            number += 1
            # A steady rate, not a race: 500 a second.
            self._producer.poll(0.002)
        self._producer.flush(120)

    def _consume(self) -> None:
        self._member.subscribe([self.topic])
        while not self._stop.is_set():
            message = self._member.poll(0.2)
            if message is not None and not message.error():
                self.consumed.append((message.partition(), message.offset(), message.value()))
                if len(self.consumed) % 50 == 0:
                    self._member.commit(asynchronous=True)
        self._member.close()

    def __enter__(self) -> "Traffic":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=150)


def test_librdkafka_producer_and_consumer(own_target, name):
    create_topic(own_target, name, partitions=2)
    with Traffic(own_target, name) as traffic:
        wait_for(lambda: len(traffic.acked) > BEFORE and len(traffic.consumed) > BEFORE, "traffic before the loss", 60)
        bound = own_target.fail_over()
        after = time.monotonic()
        acked, consumed = len(traffic.acked), len(traffic.consumed)
        wait_for(lambda: len(traffic.acked) > acked + AFTER and len(traffic.consumed) > consumed + AFTER, "traffic after the loss", 120)
        print(f"traffic is back {time.monotonic() - after:.1f} s after the failover")
    assert traffic.fatal == [] and traffic.failed == []

    readable = [message.value() for message in read_all(own_target.bootstrap, name, 2)]
    lost = set(traffic.acked) - set(readable)
    assert len(lost) <= bound, f"{len(lost)} acknowledged records lost, at most {bound} were announced"
    # Idempotent: what was sent again is there once.
    assert len(readable) == len(set(readable))
    # The member skipped nothing that can be read up to where it got; what it read twice is its right (at least once).
    seen = {value for _, _, value in traffic.consumed}
    for partition in range(2):
        values = [message.value() for message in read_all(own_target.bootstrap, name, 2) if message.partition() == partition]
        reached = max((values.index(value) for value in seen if value in values), default=-1)
        assert set(values[: reached + 1]) <= seen


def test_java_producer_and_consumer(own_target, name, tmp_path):
    create_topic(own_target, name, partitions=2)
    config = tmp_path / "producer.properties"
    # VerifiableProducer switches retries off by itself; applications run with Kafka's defaults.
    config.write_text("retries=2147483647\nenable.idempotence=true\n")
    common = ["--bootstrap-server", own_target.bootstrap, "--topic", name]
    member = tools.start(tools.VERIFIABLE_CONSUMER, *common, "--group-id", name, "--reset-policy", "earliest", "--verbose", log=tmp_path / "consumer.log")
    sender = tools.start(tools.VERIFIABLE_PRODUCER, *common, "--throughput", "300", "--acks", "-1", "--command-config", config, log=tmp_path / "producer.log")

    def events(child, kind):
        return [event for event in map(json.loads, list(child.lines)) if event["name"] == kind]

    def counts():
        assert sender.alive() and member.alive()
        return len(events(sender, "producer_send_success")), len(events(member, "record_data"))

    def both_beyond(floor):
        return all(count > least + AFTER for count, least in zip(counts(), floor))

    wait_for(lambda: both_beyond((0, 0)), "traffic before the loss", 60)
    bound = own_target.fail_over()
    floor = counts()
    wait_for(lambda: both_beyond(floor), "traffic after the loss", 120)
    assert sender.stop() in (0, 143) and events(sender, "producer_send_error") == []
    member.stop()

    readable = [message.value().decode() for message in read_all(own_target.bootstrap, name, 2)]
    lost = {event["value"] for event in events(sender, "producer_send_success")} - set(readable)
    assert len(lost) <= bound, f"{len(lost)} acknowledged records lost, at most {bound} were announced"
    assert len(readable) == len(set(readable))
