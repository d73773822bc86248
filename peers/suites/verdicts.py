"""The list of a suite: what each of its tests is expected to do, and what a run made of that.

A line is `TEST pass|fail|skip [ci] [quick] [SECONDSs] [: why]`. `ci` marks what every change must run; `quick` is the suite's own shorter form of
the test, where it has one that still tests something; the seconds are the test's deadline where the suite's own is too short. `fail` and `skip` say why. `skip` is never run: it hangs, or asks for what this product has not.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

PASS, FAIL, SKIP = "pass", "fail", "skip"
LINE = re.compile(r"^(?P<test>\S+)\s+(?P<verdict>pass|fail|skip)(?P<ci>\s+ci)?(?P<quick>\s+quick)?(\s+(?P<seconds>\d+)s)?(\s*:\s*(?P<why>\S.*))?$")


@dataclass(frozen=True)
class Expected:
    test: str
    verdict: str
    ci: bool = False
    quick: bool = False
    deadline_s: int | None = None
    why: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a test did. `why` is the suite's own word for a failure, or for a test that passed itself over; `unstable`, the same of a first go
    that failed where the second passed."""

    test: str
    verdict: str
    seconds: float
    why: str = ""
    unstable: str = ""


class BadList(ValueError):
    """The list does not say what it must; a run against it would prove nothing."""


def parse(text: str, name: str = "list") -> dict[str, Expected]:
    expected = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if not line:
            continue
        match = LINE.match(line)
        if not match:
            raise BadList(f"{name}:{number}: not `TEST pass|fail|skip [ci] [quick] [SECONDSs] [: why]`: {line}")
        entry = Expected(match["test"], match["verdict"], bool(match["ci"]), bool(match["quick"]), int(match["seconds"]) if match["seconds"] else None, match["why"] or "")
        if entry.verdict != PASS and not entry.why:
            raise BadList(f"{name}:{number}: {entry.test} is expected to {entry.verdict} and does not say why")
        if entry.test in expected:
            raise BadList(f"{name}:{number}: {entry.test} stands twice")
        expected[entry.test] = entry
    return expected


def load(path: Path) -> dict[str, Expected]:
    return parse(path.read_text(), path.name)


@dataclass
class Comparison:
    """A run held against its list."""

    regressions: list[str] = field(default_factory=list)
    better: list[str] = field(default_factory=list)
    unstable: list[str] = field(default_factory=list)
    as_listed: int = 0

    @property
    def good(self) -> bool:
        return not self.regressions


def compare(expected: dict[str, Expected], outcomes: list[Outcome]) -> Comparison:
    result = Comparison()
    for outcome in outcomes:
        listed = expected.get(outcome.test)
        if outcome.unstable:
            result.unstable.append(f"{outcome.test}: passed at its second go; first: {outcome.unstable}")
        if listed is None:
            result.regressions.append(f"{outcome.test}: not in the list ({outcome.verdict}{_because(outcome)})")
        elif outcome.verdict == listed.verdict:
            result.as_listed += 1
        elif outcome.verdict == PASS:
            result.better.append(f"{outcome.test}: passes, and the list says {listed.verdict}: tighten it")
        elif listed.verdict == PASS:
            # A test that passed itself over has proved nothing, which is no pass.
            result.regressions.append(f"{outcome.test}: {outcome.verdict}{_because(outcome)}")
        else:
            result.as_listed += 1
    return result


def second_go(first: Outcome, second: Outcome) -> Outcome:
    """What both goes of a test say together: it fails when both did."""
    seconds = first.seconds + second.seconds
    return replace(second, seconds=seconds, unstable=first.why or first.verdict if second.verdict == PASS else "")


def complete(expected: dict[str, Expected], known: list[str]) -> list[str]:
    """What list and suite do not agree on: every test of the suite has its line, every line its test."""
    missing = [f"{test}: of the suite, not in the list" for test in known if test not in expected]
    return missing + [f"{test}: in the list, not of the suite" for test in expected if test not in known]


def _because(outcome: Outcome) -> str:
    return f": {outcome.why}" if outcome.why else ""
