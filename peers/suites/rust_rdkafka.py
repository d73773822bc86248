"""rust-rdkafka's integration tests: librdkafka through the Rust wrapper, built by cargo from the crate's own package. A test is `FILE::NAME`."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from harness import cache
from verdicts import FAIL, PASS, SKIP, Outcome

import program

NAME = "rust-rdkafka"
DEADLINE_S = 90
VERSION = "3.9"
# test_topic_partition_list asks no broker.
FILES = ["test_admin", "test_high_consumers", "test_high_producers", "test_low_consumers", "test_low_producers", "test_metadata", "test_transactions"]
ROOT = Path(__file__).parents[2]
_built: dict[str, Path] = {}


def _version() -> str:
    lock = (ROOT / "Cargo.lock").read_text()
    return re.search(r'name = "rdkafka"\nversion = "([^"]+)"', lock)[1]


def folder() -> Path:
    """The package unpacked beside the other parts, because cargo builds nothing inside its registry."""
    version = _version()
    place = cache.FOLDER / f"rust-rdkafka-{version}"
    if not place.exists():
        home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
        (source,) = home.glob(f"registry/src/*/rdkafka-{version}")
        shutil.copytree(source, place)
    return place


def binaries() -> dict[str, Path]:
    """Builds the test binaries once a run; cargo knows what is fresh."""
    if not _built:
        command = ["cargo", "test", "--no-run", "--manifest-path", folder() / "Cargo.toml", *(word for file in FILES for word in ("--test", file))]
        env = {**os.environ, "CARGO_TARGET_DIR": str(cache.FOLDER / "rust-rdkafka.target"), "CARGO_PROFILE_TEST_DEBUG": "0"}
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, env=env, check=False, cwd=folder(), stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            raise AssertionError(f"cargo test --no-run ended with {done.returncode}\n{done.stderr[-4000:]}")
        for file, path in re.findall(r"Executable tests/(\w+)\.rs \((.*)\)", done.stderr):
            _built[file] = folder() / path
    return _built


def tests() -> list[str]:
    found = []
    for file, binary in binaries().items():
        out = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True).stdout
        # Not those of the helpers that every file brings along.
        found += [f"{file}::{name}" for name in re.findall(r"^(\w+): test$", out, re.MULTILINE)]
    return found


def settings(test: str) -> dict:
    # They know how many partitions a topic has that is made by being asked for, and which number the only broker has. Some ask Kafka's own port
    # whatever they are told.
    own_port = any(test.startswith(name) for name in ("test_high_producers::test_future_producer_send", "test_metadata::test_metadata"))
    return {"partitions": 3, "node": 0} | ({"port": 9092} if own_port else {})


def run(test: str, bootstrap: str, output: Path, deadline_s: int, _quick: bool) -> Outcome:
    file, _, name = test.partition("::")
    env = {"KAFKA_HOST": bootstrap, "KAFKA_VERSION": VERSION, "RUST_LOG": "off"}
    command = [binaries()[file], "--exact", name, "--nocapture", "--test-threads=1"]
    return judge(test, program.run(command, output / f"{file}-{name.replace('::', '-')}.log", deadline_s, env=env))


def judge(test: str, ended: program.Ended) -> Outcome:
    if ended.code is None:
        return Outcome(test, FAIL, ended.seconds, "hangs")
    found = re.search(r"test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored", ended.text)
    if ended.code == 0 and found and found[1] == "1":
        return Outcome(test, PASS, ended.seconds)
    if ended.code == 0:
        return Outcome(test, SKIP, ended.seconds, "ignored by its authors")
    panic = re.search(r"panicked at (\S+?):?\n(.*)", ended.text)
    return Outcome(test, FAIL, ended.seconds, f"{panic[1]} - {panic[2]}"[:300] if panic else f"ended with {ended.code}")
