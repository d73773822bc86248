"""A Whimbrel fleet on this machine: `whimbrel dev --separate`, its `dev.json`, and the command line as an operator uses it."""

import json
import os
import re
import shlex
import signal
import subprocess
import urllib.request
from pathlib import Path

from . import cache
from .process import Child, free_base
from .waiting import wait_for

# What `whimbrel dev` takes from its base: ten ports for each of east, west and the witness.
PORTS = [site + port for site in (0, 100, 200) for port in range(10)]
APPLY = "NOTHING CHANGED. Apply with:"


class Fleet:
    """Two regions and a witness, each role its own process. `bucket` is a URL, or none for the default folder store. `settings` are options of
    the processes, `{"broker.default-partitions": 4}`. With `one_region` there are brokers in east only;
    `brokers` is their number in each region."""

    def __init__(self, folder: Path, *, port: int | None = None, bucket: str | None = None, env: dict | None = None, settings: dict | None = None, one_region: bool = False, brokers: int = 1):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.data = self.folder / "fleet"
        self.port = port or free_base(PORTS)
        self.bucket = bucket
        self.env = env or {}
        self.settings = settings or {}
        self.one_region = one_region
        self.brokers_a_region = brokers
        self.child: Child | None = None
        self.restarted: list[Child] = []

    def start(self) -> "Fleet":
        command = [cache.whimbrel(), "dev", "--separate", "--port", self.port, "--data-dir", self.data]
        if self.bucket:
            command += ["--bucket", self.bucket]
        if self.one_region:
            command.append("--one-region")
        if self.brokers_a_region > 1:
            command += ["--brokers", self.brokers_a_region]
        for key, value in self.settings.items():
            command += ["--set", f"{key}={value}"]
        # An old description would point at processes that are gone.
        (self.data / "dev.json").unlink(missing_ok=True)
        self.child = Child("whimbrel dev", command, self.folder / "dev.log", env=self.env)
        self.child.wait_until(self._answers, "dev.json is there and every process ready", 90)
        return self

    def _answers(self) -> bool:
        if not (self.data / "dev.json").exists():
            return False
        return self.ready()

    def ready(self) -> bool:
        """Whether every process answers."""
        return all(_ready(process["admin"]) for process in self.description()["processes"])

    def alive(self) -> bool:
        """Whether every process runs."""
        return all(_runs(process["pid"]) for process in self.description()["processes"])

    def description(self) -> dict:
        return json.loads((self.data / "dev.json").read_text())

    @property
    def bootstrap(self) -> str:
        addresses = self.description()["bootstrap"]
        return addresses if isinstance(addresses, str) else ",".join(addresses)

    def brokers(self, region: str) -> list[str]:
        return [entry if isinstance(entry, str) else entry["address"] for entry in self.description()["regions"][region]["brokers"]]

    def processes(self, region: str) -> list[dict]:
        return [process for process in self.description()["processes"] if process["region"] == region]

    def asked(self, region: str, path: str) -> bytes:
        """What the region's broker tells operators."""
        (admin,) = [process["admin"] for process in self.processes(region) if process["role"] == "broker"]
        return urllib.request.urlopen(f"http://{admin}{path}", timeout=10).read()

    def sent(self, region: str) -> int:
        """Bytes of records that the region's broker has sent to consumers, as its metrics say."""
        found = re.search(r"^whimbrel_fetched_bytes_total\S* (\S+)$", self.asked(region, "/metrics").decode(), re.MULTILINE)
        return int(float(found[1])) if found else 0

    def high_watermarks(self, region: str, topic: str) -> dict[int, int]:
        """Of the topic's partitions, as the region's broker has them."""
        copies = json.loads(self.asked(region, "/status"))["partitions"]
        return {copy["partition"]: copy["high_watermark"] for copy in copies if copy["topic"] == topic}

    def set_password(self, user: str, password: str) -> None:
        """As an operator does: the password is on stdin."""
        command = [str(cache.whimbrel()), "user", "set", user, "--fleet", str(self.data)]
        subprocess.run(command, input=f"{password}\n", text=True, check=True, timeout=60, capture_output=True)

    def verb(self, *words, check: bool = True, deadline_s: float = 60.0) -> str:
        """Runs a verb of the command line against this fleet; its standard output."""
        command = [str(cache.whimbrel()), *map(str, words), "--fleet", str(self.data)]
        return self._run(command, check, deadline_s)

    def _run(self, command: list[str], check: bool, deadline_s: float) -> str:
        done = subprocess.run(command, capture_output=True, text=True, timeout=deadline_s, check=False, stdin=subprocess.DEVNULL, env={**os.environ, **self.env})
        if check and done.returncode != 0:
            raise AssertionError(f"{shlex.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def move(self, verb: str, group: str, to: str, *options: str) -> list[str]:
        """Plans a move and applies it with the very command the plan ends with. Returns that command."""
        plan = self.verb(verb, "plan", group, "--to", to, *options)
        last = plan.strip().splitlines()[-1]
        if not last.startswith(APPLY):
            raise AssertionError(f"the plan does not end with '{APPLY}':\n{plan}")
        command = shlex.split(last[len(APPLY) :])
        command[0] = str(cache.whimbrel())
        if "--fleet" not in command:
            command += ["--fleet", str(self.data)]
        self._run(command, True, 120)
        return command

    def kill_region(self, region: str) -> list[int]:
        """SIGKILL to every process of the region at once. Returns their pids."""
        pids = [process["pid"] for process in self.processes(region)]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(_runs(pid) for pid in pids), f"the processes of {region} to be gone", 10)
        return pids

    def restart_broker(self, region: str, meanwhile=lambda: None) -> None:
        """SIGKILL to the region's broker, and a new start; the other processes stay. `meanwhile` is called between the two."""
        (broker,) = [process for process in self.processes(region) if process["role"] == "broker"]
        os.kill(broker["pid"], signal.SIGKILL)
        wait_for(lambda: not _runs(broker["pid"]), "the broker to be gone", 10)
        meanwhile()
        self._start_again([broker])

    def kill(self) -> None:
        """SIGKILL to every process; `start` starts a fleet on the same data again."""
        pids = [process["pid"] for process in self.description()["processes"]]
        self.child.kill()
        for pid in pids:
            if _runs(pid):
                os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not any(map(_runs, pids)), "every process to be gone", 10)

    def start_region(self, region: str) -> None:
        """Starts a killed region's processes again with the commands `dev.json` gives."""
        self._start_again(self.processes(region))

    def _start_again(self, processes: list[dict]) -> None:
        for process in processes:
            name = f"{process['role']}-{process['region']}"
            self.restarted.append(Child(name, process["command"], self.folder / f"{name}.log", env=self.env))
        wait_for(lambda: all(_ready(process["admin"]) for process in processes), f"{[process['role'] for process in processes]} to be ready again", 60)

    def stop(self) -> None:
        for child in self.restarted:
            child.stop()
        if self.child:
            self.child.stop(30)


def _ready(admin: str) -> bool:
    try:
        return urllib.request.urlopen(f"http://{admin}/readyz", timeout=2).status == 200
    except OSError:
        return False


def _runs(pid: int) -> bool:
    """Whether the process still runs; a zombie that its parent has not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
