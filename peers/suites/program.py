"""Runs one test's program with a deadline, its output in a file."""

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Two log files of a runaway client are read whole; nothing of interest is in the middle of a larger one.
MOST_READ = 8 << 20
# Of a line that is printed.
LONGEST_LINE = 300


@dataclass
class Ended:
    """`code` is None when the deadline ended it."""

    code: int | None
    seconds: float
    text: str


def run(command: list, log: Path, deadline_s: float, *, cwd: Path | None = None, env: dict | None = None) -> Ended:
    log.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with log.open("wb") as out:
        # A group of its own, so that what the test has forked goes with it.
        child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=cwd, env={**os.environ, **(env or {})}, start_new_session=True)
        try:
            code = child.wait(deadline_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            child.wait()
    return Ended(code, time.monotonic() - start, _text(log))


def ends(log: Path, most_lines: int) -> str:
    """The file with its lines cut short; of more than `most_lines` the first and the last half."""
    if not log.exists():
        return f"{log} is missing"
    lines = [line[:LONGEST_LINE] for line in _text(log).splitlines()]
    left_out = len(lines) - most_lines
    if left_out > 0:
        half = most_lines // 2
        lines[half:-half] = [f"[.. {left_out} lines, see {log} ..]"]
    return "\n".join(lines)


def _text(log: Path) -> str:
    with log.open("rb") as file:
        text = file.read(MOST_READ)
    return _COLOUR.sub("", text.decode(errors="replace"))
