"""Kafka Connect 4.2, distributed, with its file source and sink: its group protocol, its compacted topics, its positions."""

import json
import shutil
import urllib.request

import pytest

from harness import cache, tools
from harness.process import free_port
from harness.waiting import wait_for

WORKER = "org.apache.kafka.connect.cli.ConnectDistributed"


class Worker:
    """One worker. Its three topics are its memory: a second worker goes on where the first one stopped."""

    def __init__(self, target, name: str, folder):
        self.target, self.name, self.folder = target, name, folder
        self.port = free_port()
        plugins = folder / "plugins" / "file"
        plugins.mkdir(parents=True)
        (jar,) = cache.kafka_libs().glob("connect-file-*.jar")
        shutil.copy(jar, plugins)
        self.config = folder / "worker.properties"
        settings = {
            "bootstrap.servers": target.bootstrap,
            "group.id": name,
            "plugin.path": plugins.parent,
            "plugin.discovery": "service_load",
            "listeners": f"http://127.0.0.1:{self.port}",
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "offset.flush.interval.ms": 500,
        }
        for memory in ("offset", "config", "status"):
            settings |= {f"{memory}.storage.topic": f"{name}-{memory}", f"{memory}.storage.replication.factor": 1}
        settings |= {"offset.storage.partitions": 3, "status.storage.partitions": 2}
        self.config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.child = None

    def start(self) -> "Worker":
        self.child = tools.start(WORKER, self.config, log=self.folder / "worker.log")
        self.child.wait_until(lambda: self.ask("GET", "/connectors") is not None, "its REST interface", 120)
        return self

    def ask(self, method: str, path: str, body: dict | None = None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method, data=json.dumps(body).encode() if body else None, headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def connector(self, kind: str, file, **settings) -> None:
        config = {"connector.class": f"org.apache.kafka.connect.file.FileStream{kind.capitalize()}Connector", "tasks.max": "1", "file": str(file)} | settings
        name = f"{self.name}-{kind}"
        self.ask("PUT", f"/connectors/{name}/config", config)

        def runs():
            status = self.ask("GET", f"/connectors/{name}/status")
            return [task["state"] for task in status["tasks"]] == ["RUNNING"]

        wait_for(runs, f"{name} to run", 60)

    def stop(self) -> None:
        self.child.stop(30)


@pytest.mark.timeout(400)
def test_a_file_goes_through_a_topic_into_a_file(target, name, tmp_path):
    source, sink = tmp_path / "source.txt", tmp_path / "sink.txt"
    first = "".join(f"line {number}\n" for number in range(500))
    second = "".join(f"line {number}\n" for number in range(500, 800))
    source.write_text(first)
    worker = Worker(target, name, tmp_path).start()
    worker.connector("source", source, topic=name)
    worker.connector("sink", sink, topics=name)
    wait_for(lambda: sink.exists() and sink.read_text() == first, "the file to arrive", 60)
    worker.stop()
    # What was configured and how far it came is in the topics alone.
    with source.open("a") as file:
        file.write(second)
    worker.start()
    wait_for(lambda: sink.read_text() == first + second, "the rest, and nothing twice", 90)
    worker.stop()
