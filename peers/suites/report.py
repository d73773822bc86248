"""What a run leaves behind: a line per test while it runs, a JUnit file for machines, each test's own output for who must find the cause."""

import json
from pathlib import Path
from xml.sax.saxutils import quoteattr

from verdicts import FAIL, SKIP, Comparison, Expected, Outcome


def line(outcome: Outcome, expected: Expected | None) -> str:
    listed = expected.verdict if expected else "unlisted"
    mark = "" if listed == outcome.verdict else f" (listed: {listed})"
    why = f"  {outcome.why}" if outcome.why else ""
    why += "  at its second go" if outcome.unstable else ""
    return f"{outcome.verdict:<5}{outcome.seconds:>7.1f}s  {outcome.test}{mark}{why}"


def write(folder: Path, suite: str, outcomes: list[Outcome]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [vars(outcome) for outcome in outcomes]
    (folder / f"{suite}.json").write_text(json.dumps(rows, indent=1) + "\n")
    failures = sum(outcome.verdict == FAIL for outcome in outcomes)
    skipped = sum(outcome.verdict == SKIP for outcome in outcomes)
    lines = [f'<testsuite name={quoteattr(suite)} tests="{len(outcomes)}" failures="{failures}" skipped="{skipped}">']
    for outcome in outcomes:
        inner = {FAIL: f"<failure message={quoteattr(outcome.why)}/>", SKIP: f"<skipped message={quoteattr(outcome.why)}/>"}.get(outcome.verdict, "")
        lines.append(f' <testcase classname={quoteattr(suite)} name={quoteattr(outcome.test)} time="{outcome.seconds:.3f}">{inner}</testcase>')
    (folder / f"{suite}.xml").write_text("\n".join([*lines, "</testsuite>", ""]))


def summary(suite: str, outcomes: list[Outcome], comparison: Comparison, disagreements: list[str]) -> str:
    passed = sum(outcome.verdict == "pass" for outcome in outcomes)
    lines = [f"{suite}: {passed} of {len(outcomes)} pass, {comparison.as_listed} as listed, {sum(o.seconds for o in outcomes):.0f}s"]
    lines += [f"  REGRESSION {text}" for text in comparison.regressions]
    lines += [f"  UNSTABLE   {text}" for text in comparison.unstable]
    lines += [f"  better     {text}" for text in comparison.better]
    lines += [f"  LIST       {text}" for text in disagreements]
    return "\n".join(lines)
