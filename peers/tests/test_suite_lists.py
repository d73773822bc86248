"""The lists of foreign suites: a run that is worse than its list must not pass. No target is needed."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "suites"))

import kafka_python  # noqa: E402
import librdkafka  # noqa: E402
import rust_rdkafka  # noqa: E402
import verdicts  # noqa: E402
from program import Ended, run  # noqa: E402
from verdicts import FAIL, PASS, SKIP, Outcome  # noqa: E402

LIST = """
# a comment
one    pass ci
two    fail 30s : the broker has no telepathy
three  skip : hangs
"""


def judged(*outcomes):
    return verdicts.compare(verdicts.parse(LIST), [Outcome(test, verdict, 1.0, "because") for test, verdict in outcomes])


def test_a_list_is_read():
    one, two, three = verdicts.parse(LIST).values()
    assert (one.test, one.verdict, one.ci, one.deadline_s) == ("one", PASS, True, None)
    assert (two.verdict, two.ci, two.deadline_s, two.why) == (FAIL, False, 30, "the broker has no telepathy")
    assert (three.verdict, three.why) == (SKIP, "hangs")


@pytest.mark.parametrize("text", ["one", "one perhaps", "one fail", "one skip", "one pass\none pass", "one fail :"])
def test_a_list_that_says_too_little_is_refused(text):
    with pytest.raises(verdicts.BadList):
        verdicts.parse(text)


def test_what_is_as_listed_is_good():
    assert judged(("one", PASS), ("two", FAIL)).good


@pytest.mark.parametrize("verdict", [FAIL, SKIP])
def test_a_listed_pass_that_does_not_pass_is_a_regression(verdict):
    found = judged(("one", verdict), ("two", FAIL))
    assert not found.good and found.regressions == [f"one: {verdict}: because"]


def test_a_test_without_a_line_is_a_regression():
    assert not judged(("four", PASS)).good


def test_a_listed_failure_that_passes_is_told():
    found = judged(("two", PASS))
    assert found.good and len(found.better) == 1


def test_a_second_go_decides_and_the_first_is_told():
    first = verdicts.Outcome("one", FAIL, 2.0, "too late")
    passed = verdicts.second_go(first, verdicts.Outcome("one", PASS, 1.0))
    found = verdicts.compare(verdicts.parse(LIST), [passed])
    assert found.good and passed.seconds == 3.0 and found.unstable == ["one: passed at its second go; first: too late"]
    failed = verdicts.second_go(first, verdicts.Outcome("one", FAIL, 1.0, "too late again"))
    found = verdicts.compare(verdicts.parse(LIST), [failed])
    assert found.regressions == ["one: fail: too late again"] and not found.unstable


def test_list_and_suite_must_agree():
    assert verdicts.complete(verdicts.parse(LIST), ["one", "two", "three"]) == []
    assert len(verdicts.complete(verdicts.parse(LIST), ["one", "two", "four"])) == 2


def test_the_lists_in_the_tree_are_lists():
    for suite in (librdkafka, kafka_python, rust_rdkafka):
        assert verdicts.load(Path(verdicts.__file__).parent / f"{suite.NAME}.list")


def test_a_program_that_hangs_is_ended_with_what_it_started(tmp_path):
    ended = run(["sh", "-c", "echo begun; sleep 600 & wait"], tmp_path / "log", 0.5)
    assert ended.code is None and ended.text == "begun\n"


SUMMARY = "| <MAIN>   |     PASSED |   3.3s |\n| 0012_produce_consume      | {} |   3.162s | {}\n"


@pytest.mark.parametrize("code, state, verdict", [(0, "PASSED", PASS), (0, "SKIPPED", SKIP), (1, "FAILED", FAIL)])
def test_librdkafkas_runner_is_understood(code, state, verdict):
    outcome = librdkafka.judge("0012_produce_consume", Ended(code, 1.0, SUMMARY.format(state, "why it was so")))
    assert outcome.verdict == verdict


def test_librdkafkas_failure_names_place_and_reason():
    text = '[0081_admin]\n### Test "0081_admin (do_test_X:12: y)" failed at 0081-admin.c:123:do_test_X() at Sat Nov 21: ### \nExpected 1, not 2\n'
    assert librdkafka.judge("0081_admin", Ended(1, 1.0, text)).why == "do_test_X:12: y - 0081-admin.c:123 - Expected 1, not 2"


def test_pytests_report_is_understood():
    report = '<testsuites><testsuite><testcase name="a">{}</testcase></testsuite></testsuites>'
    assert kafka_python.judge("a", 1.0, report.format("")).verdict == PASS
    assert kafka_python.judge("a", 1.0, report.format('<skipped message="no"/>')).verdict == SKIP
    assert kafka_python.judge("a", 1.0, report.format('<error message="fixture"/>')).verdict == FAIL
    assert kafka_python.judge("a", 1.0, "<testsuites/>").verdict == FAIL


def test_cargos_report_is_understood():
    line = "test result: ok. {}; 0 measured; 3 filtered out"
    assert rust_rdkafka.judge("f::a", Ended(0, 1.0, line.format("1 passed; 0 failed; 0 ignored"))).verdict == PASS
    assert rust_rdkafka.judge("f::a", Ended(0, 1.0, line.format("0 passed; 0 failed; 1 ignored"))).verdict == SKIP
    assert rust_rdkafka.judge("f::a", Ended(101, 1.0, "panicked at tests/x.rs:5:1:\nno")).why == "tests/x.rs:5:1 - no"
