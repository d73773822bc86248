#!/usr/bin/env python3
"""Starts one real system in the foreground until SIGINT or SIGTERM: for a look by hand, and for what is not written in Python.

    peers/run.py kafka --port 9092 --dir /tmp/k [--fsync] [--tiered] [--set key=value]
    peers/run.py minio --port 9000 --dir /tmp/m [--bucket NAME]
    peers/run.py toxiproxy --port 8474 --dir /tmp/t

Prints one line of JSON ({"ready": true, "pid": .., "port": ..}) once it answers.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

from harness.kafka import Kafka
from harness.stores import Minio, Toxiproxy


def build(arguments):
    if arguments.system == "kafka":
        extra = dict(setting.split("=", 1) for setting in arguments.set)
        return Kafka(arguments.dir, port=arguments.port, fsync=arguments.fsync, tiered=arguments.tiered, heap=arguments.heap, extra=extra)
    if arguments.system == "minio":
        store = Minio(arguments.dir, arguments.port)
        for bucket in arguments.bucket:
            store.bucket(bucket)
        return store
    return Toxiproxy(arguments.dir, arguments.port)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=["kafka", "minio", "toxiproxy"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--fsync", action="store_true")
    parser.add_argument("--tiered", action="store_true")
    parser.add_argument("--heap", default="1g")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--bucket", action="append", default=[], metavar="NAME")
    system = build(parser.parse_args())
    signals = {signal.SIGINT, signal.SIGTERM}
    try:
        system.start()
        # Not before: the child would inherit the blocked signals. One that falls in between ends us, and the kernel the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        print(json.dumps({"ready": True, "pid": system.child.pid, "port": system.port}), flush=True)
        signal.sigwait(signals)
    finally:
        system.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
