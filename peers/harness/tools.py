"""Kafka 4.2's command line tools, each a JVM of its own."""

import subprocess
from pathlib import Path

from .kafka import QUICK_JVM, java
from .process import Child

TOPICS = "org.apache.kafka.tools.TopicCommand"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
ACLS = "org.apache.kafka.tools.AclCommand"
CONFIGS = "kafka.admin.ConfigCommand"
QUORUM = "org.apache.kafka.tools.MetadataQuorumCommand"
LOG_DIRS = "org.apache.kafka.tools.LogDirsCommand"
ELECTION = "org.apache.kafka.tools.LeaderElectionCommand"
OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
CONSOLE_PRODUCER = "org.apache.kafka.tools.ConsoleProducer"
CONSOLE_CONSUMER = "org.apache.kafka.tools.consumer.ConsoleConsumer"
VERIFIABLE_PRODUCER = "org.apache.kafka.tools.VerifiableProducer"
VERIFIABLE_CONSUMER = "org.apache.kafka.tools.VerifiableConsumer"
TRANSACTIONS = "org.apache.kafka.tools.TransactionsCommand"
TRANSACTIONAL_COPIER = "org.apache.kafka.tools.TransactionalMessageCopier"
DUMP_LOG = "kafka.tools.DumpLogSegments"


def run(tool: str, *arguments, stdin: bytes = b"", deadline_s: float = 60.0, errors: bool = False) -> str:
    """Runs a tool to its end and returns its standard output, followed by standard error with `errors`. A bad exit is an assertion with both."""
    done = subprocess.run(java(tool, *arguments, jvm=QUICK_JVM), input=stdin, capture_output=True, timeout=deadline_s, check=False)
    out, complaints = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.returncode != 0:
        raise AssertionError(f"{tool.rsplit('.', 1)[-1]} ended with {done.returncode}\n{out}\n{complaints}")
    return out + complaints if errors else out


def start(tool: str, *arguments, log: Path) -> Child:
    """Starts a tool that goes on until it is stopped; what it prints arrives in `lines`."""
    return Child(tool.rsplit(".", 1)[-1], java(tool, *arguments, jvm=QUICK_JVM), log, lines=True)


def start_program(source: Path, *arguments, log: Path) -> Child:
    """Starts a Java program of one source file, compiled as it starts."""
    return Child(source.stem, java(source, *arguments, jvm=QUICK_JVM), log, lines=True)


def table(text: str, first: str) -> list[dict]:
    """The rows of a table whose header line starts with the word `first`."""
    rows, header = [], None
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == first:
            header = words
        elif header and words:
            rows.append(dict(zip(header, words)))
    return rows
