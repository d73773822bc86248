"""librdkafka's own tests: the C and C++ client against a broker. The unit is what `test-runner` can select: a number, in a scenario.

Not here: its local tests, which run against a broker inside the library itself, and what its authors mark as a known issue or manual.
"""

import re
from pathlib import Path

from harness import cache
from harness.target import PASSWORD, USER
from verdicts import FAIL, PASS, SKIP, Outcome

import program

NAME = "librdkafka"
DEADLINE_S = 150
# What the tests are told the broker is; librdkafka itself asks ApiVersions. 3.9 is before brokers that dropped what some tests still try.
VERSION = "3.9.0.0"
# They count on what brokers have since then, groups with configs, or would try what these dropped: requests for versions from before ApiVersions.
VERSIONS = {"0052": "4.2.0.0", "0081": "4.2.0.0"}
# They count on who is in the first generation: Kafka's default delay, in which all members join.
COUNT_REBALANCES = ("0113", "0118")
# They make topics with three replicas.
THREE_REPLICAS = ("0098", "0101", "0103", "0107", "0111", "0142")
# They count on brokers that stand in different racks.
RACKS = ("0101",)
# They change the access control list, as nobody in particular.
ACCESS_LISTS = ("0081", "0109", "0115", "0119")
# Their members ask for sessions shorter than Kafka's least, and count on their end.
SHORT_SESSIONS = ("0081",)
# They prove who they are, again and again.
PROVE = ("0135", "0142")
# What their authors run with KIP-848's protocol only.
CONSUMER_PROTOCOL = ("0153",)
# The whole takes longer than a change can wait for, and its quick form leaves nearly all out: these of its subtests are tests of their own.
SUBTESTS = {
    "0113": (
        "d_change_subscription_add_topic", "e_change_subscription_remove_topic", "h_delete_topic", "k_add_partition", "n_wildcard",
        "s_subscribe_when_rebalancing", "v_commit_during_rebalance", "x_incremental_rebalances",
    ),
    # The whole of it proves with a password, and passes this one over.
    "0142": ("oauthbearer",),
}
NOT_OURS = ("TEST_F_LOCAL", "TEST_F_KNOWN_ISSUE", "TEST_F_MANUAL")


def folder() -> Path:
    return cache.part("WHIMBREL_LIBRDKAFKA_TESTS", cache.FOLDER / "librdkafka" / "tests")


def tests() -> list[str]:
    """`NUMBER_NAME` after the first test of that number, `@SCENARIO` where it is not the default one, `.SUBTEST` where it is not the whole."""
    source = (folder() / "test.c").read_text()
    table = source[source.index("struct test tests[]") : source.index("{NULL}}")]
    found = {}
    for name, flags, rest in re.findall(r"_TEST\((\d{4}_\w+),\s*([\w |]+)((?:[^()]|\([^()]*\))*)\)", table):
        flags = flags.split()
        if any(flag in flags for flag in NOT_OURS):
            continue
        scenario = re.search(r'\.scenario = "(\w+)', rest)
        scenario = scenario[1] if scenario else "default"
        found.setdefault((name[:4], scenario), name + ("" if scenario == "default" else f"@{scenario}"))
    parts = [f"{test}.{part}" for test in found.values() for part in SUBTESTS.get(test[:4], ())]
    return [*found.values(), *parts]


def settings(test: str) -> dict:
    """What the test wants of the broker it runs against."""
    number = test[:4]
    return {
        "auto_create": "@noautocreate" not in test,
        "rebalance_delay_ms": 3000 if number in COUNT_REBALANCES else 0,
        "brokers": 3 if number in THREE_REPLICAS else 1,
        "racks": number in RACKS,
        "acls": number in ACCESS_LISTS,
        "sasl": number in PROVE,
        "least_session_ms": 1000 if number in SHORT_SESSIONS else 6000,
    }


def run(test: str, bootstrap: str, output: Path, deadline_s: int, quick: bool) -> Outcome:
    name, _, scenario = test.partition("@")
    name, _, subtest = name.partition(".")
    config = output / f"{test}.conf"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f"bootstrap.servers={bootstrap}\ntest.topic.random=true\n{_proof(name[:4], subtest)}")
    # -Q leaves out whole subtests, of some tests all, and calls that a pass: only where the list says that it is worth something.
    # -L: not the local ones of the same number. -K: nothing that is known to fail. Statistics go to the current directory.
    command = [folder() / "test-runner", "-p1", "-L", "-K", "-V", VERSIONS.get(name[:4], VERSION), *(["-Q"] if quick else []), *(["-s", scenario] if scenario else [])]
    env = {"TESTS": name[:4], "RDKAFKA_TEST_CONF": str(config.resolve()), "TEST_LEVEL": "2", "LD_LIBRARY_PATH": str(folder())}
    if subtest:
        env["SUBTESTS"] = subtest
    # Some tests make and change topics with Kafka's own script.
    env |= {"KAFKA_PATH": str(Path(__file__).parent / "kafka"), "BROKERS": bootstrap, "WHIMBREL_KAFKA_LIBS": str(cache.kafka_libs())}
    if name[:4] in CONSUMER_PROTOCOL:
        env["TEST_CONSUMER_GROUP_PROTOCOL"] = "consumer"
    ended = program.run(command, output / f"{test}.log", deadline_s, cwd=folder(), env=env)
    for statistics in folder().glob("stats_*.json"):
        statistics.unlink()
    return judge(test, ended)


def _proof(number: str, subtest: str) -> str:
    """Who the test is, for those that prove it."""
    if number not in PROVE:
        return ""
    if subtest == "oauthbearer":
        login = f"sasl.mechanism=OAUTHBEARER\nenable.sasl.oauthbearer.unsecure.jwt=true\nsasl.oauthbearer.config=principal={USER}\n"
    else:
        login = f"sasl.mechanism=PLAIN\nsasl.username={USER}\nsasl.password={PASSWORD}\n"
    return f"security.protocol=sasl_plaintext\n{login}"


def judge(test: str, ended: program.Ended) -> Outcome:
    subtest = test.partition(".")[2]
    if ended.code == 0 and subtest and not re.search(rf"\[ \w*{subtest}\w*:.*: PASS", ended.text):
        return Outcome(test, SKIP, ended.seconds, "no subtest of that name ran")
    if ended.code == 0:
        # Of the summary: | NAME | STATE | SECONDSs | WHY
        ran = re.findall(r"^\|\s+(\d{4}_\w+)\s+\|\s+(\w+)\s+\|[^|]*\|(.*)", ended.text, re.MULTILINE)
        if any(state == "PASSED" for _, state, _ in ran):
            return Outcome(test, PASS, ended.seconds)
        return Outcome(test, SKIP, ended.seconds, next((why.strip() for _, _, why in ran if why.strip()), "it passed itself over")[:200])
    return Outcome(test, FAIL, ended.seconds, _reason(ended))


def _reason(ended: program.Ended) -> str:
    # ### Test "NAME (SUBTEST)" failed at FILE:LINE:FUNCTION() at TIME: ###  and the reason on the next line.
    found = re.search(r'### Test "([^"]*)" failed at (\S+?:\d+)\S*.*?###\s*\n(.*)', ended.text)
    if found:
        subtest = found[1].partition(" (")[2].rstrip(")")
        return " - ".join(part for part in (subtest, found[2], found[3].strip()) if part)[:300]
    if ended.code is None:
        last = [line for line in ended.text.splitlines() if line.startswith("[")]
        return f"hangs; last: {last[-1][:200]}" if last else "hangs"
    return f"ended with {ended.code}: {ended.text.strip().splitlines()[-1][:200] if ended.text.strip() else 'no word'}"

