"""kafka-python's integration tests: a client in pure Python with its own reading of the protocol. A test is pytest's `FILE::NAME[PARAMETERS]`."""

import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from harness import cache
from verdicts import FAIL, PASS, SKIP, Outcome

import program

NAME = "kafka-python"
DEADLINE_S = 90
# What our range of API versions looks like to it, as Kafka 4.2's does.
VERSION = "4.2.0"
# They start brokers of their own with TLS and SASL, and pass themselves over where the broker is given.
FILES = ["test_admin_integration.py", "test_consumer_integration.py", "test_producer_integration.py"]
# All that the client has to say goes to a file beside the test's output: a failure that does not come again cannot be asked.
LOGGING = ["--log-file-level=DEBUG", "--log-file-format=%(asctime)s.%(msecs)03d %(threadName)s %(name)s %(message)s"]
# Lines of it that are printed when a test fails.
MOST_PRINTED = 600
# So often a test begins again in which the client was in its own way, see `lost_its_subscription`.
TRIES = 6


def folder() -> Path:
    return cache.part("WHIMBREL_KAFKA_PYTHON_TESTS", cache.FOLDER / "kafka-python")


def _pytest(*arguments) -> list:
    # -c: without it pytest looks for a configuration above, and finds ours.
    return [cache.FOLDER / "venv" / "bin" / "python", "-m", "pytest", "-c", os.devnull, "--rootdir", folder(), "-p", "no:cacheprovider", "-q", *arguments]


def _env(bootstrap: str = "127.0.0.1:1") -> dict:
    uri = f"kafka://{bootstrap.split(',')[0]}"
    # KAFKA_ROOT is where they would take a broker from if none were given; they insist that it is there.
    return {"KAFKA_URI": uri, "KAFKA_VERSION": VERSION, "KAFKA_ROOT": str(folder()), "PYTHONPATH": str(folder()), "PYTHONDONTWRITEBYTECODE": "1"}


def tests() -> list[str]:
    files = [f"test/integration/{file}" for file in FILES]
    command = [str(word) for word in _pytest("--collect-only", *files)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder(), env={**os.environ, **_env()}, check=False, timeout=120)
    found = re.findall(r"^test/integration/(\S+::\S+)$", done.stdout, re.MULTILINE)
    if not found:
        raise AssertionError(f"pytest collected nothing\n{done.stdout}\n{done.stderr}")
    return found


def settings(test: str) -> dict:
    # As the brokers it would start itself: numbered from 0.
    return {"least_session_ms": 1000, "node": 0} | ({"acls": True} if "_acls" in test else {})


def run(test: str, bootstrap: str, output: Path, deadline_s: int, _quick: bool) -> Outcome:
    outcome, said = once(test, bootstrap, output, deadline_s)
    for _ in range(1, TRIES):
        if outcome.verdict != FAIL or not lost_its_subscription(said):
            break
        print(f"again {test}: its consumer subscribed while its first metadata came, and forgot it", flush=True)
        outcome, said = once(test, bootstrap, output, deadline_s)
    if outcome.verdict == FAIL:
        print(program.ends(said, MOST_PRINTED), flush=True)
    return outcome


def lost_its_subscription(said: Path) -> bool:
    """A client's race: a subscription in the moment between the answer to its first question for metadata, which names no topic, and its
    reading finds itself without partitions, and the next question is due in five minutes. A faster broker makes it more likely. It shows
    as a consumer that is assigned nothing and never fetches."""
    text = said.read_text(errors="replace") if said.exists() else ""
    return "Updated partition assignment: []" in text and "FetchRequest" not in text


def once(test: str, bootstrap: str, output: Path, deadline_s: int) -> tuple[Outcome, Path]:
    file = re.sub(r"[^\w.-]+", "-", test)
    junit = output / f"{file}.xml"
    junit.unlink(missing_ok=True)
    said = output / f"{file}.debug"
    command = _pytest(f"--junit-xml={junit.resolve()}", f"--log-file={said.resolve()}", *LOGGING, f"test/integration/{test}")
    ended = program.run(command, output / f"{file}.log", deadline_s, cwd=folder(), env=_env(bootstrap))
    if ended.code is None or not junit.exists():
        outcome = Outcome(test, FAIL, ended.seconds, "hangs" if ended.code is None else f"pytest ended with {ended.code}")
    else:
        outcome = judge(test, ended.seconds, junit.read_text())
    return outcome, said


def judge(test: str, seconds: float, junit: str) -> Outcome:
    cases = list(ElementTree.fromstring(junit).iter("testcase"))
    for kind, verdict in (("failure", FAIL), ("error", FAIL), ("skipped", SKIP)):
        for case in cases:
            found = case.find(kind)
            if found is not None:
                return Outcome(test, verdict, seconds, " ".join((found.get("message") or "").split())[:300])
    return Outcome(test, PASS if cases else FAIL, seconds, "" if cases else "pytest ran nothing")
