"""A child process with its output in a file. Children never outlive this process: they are stopped at exit and killed if it dies."""

import atexit
import ctypes
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

from .waiting import wait_for

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
_running: set["Child"] = set()


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """One started program. Standard output goes to `lines` when asked for, else into the log file like standard error."""

    def __init__(self, name: str, command: list, log: Path, *, lines: bool = False, stdin: bool = False, env: dict | None = None, cwd: Path | None = None):
        self.name = name
        self.log = Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.lines: list[str] = []
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE if lines else out,
                stderr=out,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                preexec_fn=_die_with_parent,
            )
        self._reader = None
        if lines:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        _running.add(self)

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.decode(errors="replace").rstrip("\n"))

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process.poll() is None

    def tail(self, count: int = 15) -> str:
        """The end of the log, for a failure's message."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def wait_until(self, condition, what: str, deadline_s: float = 60.0):
        """`wait_for`, given up at once when the process is gone."""

        def check():
            return condition() or not self.alive()

        wait_for(check, f"{self.name}: {what}", deadline_s)
        if not self.alive():
            raise AssertionError(f"{self.name} ended with {self.process.returncode} before: {what}\n{self.tail()}")

    def wait(self, deadline_s: float = 60.0) -> int:
        code = self.process.wait(timeout=deadline_s)
        if self._reader:
            self._reader.join(timeout=10)
        _running.discard(self)
        return code

    def kill(self) -> None:
        """SIGKILL: what a power cut does to a process."""
        self.process.kill()
        self.wait()

    def stop(self, deadline_s: float = 20.0) -> int:
        """SIGTERM, then SIGKILL after the deadline. Returns the exit code."""
        if self.alive():
            self.process.terminate()
            try:
                return self.wait(deadline_s)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.wait()


def stop_all(only: set[str] | None = None) -> None:
    """Stops every child still running, or those with one of these names."""
    for child in list(_running):
        if only is None or child.name in only:
            child.stop(5)


atexit.register(stop_all)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_base(offsets: list[int]) -> int:
    """A port P for which every P + offset is free, below the range the kernel hands out by itself."""
    for base in range(21_000, 31_000, 500):
        if not any(listening(base + offset) for offset in offsets):
            return base
    raise OSError("no free range of ports")
