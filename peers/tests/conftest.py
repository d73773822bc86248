"""Fixtures: one target for the whole run, one of its own for tests that break it, and names that no two tests share."""

import itertools
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness import process, target as targets  # noqa: E402

_numbers = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption("--target", choices=["kafka", "whimbrel"], default="whimbrel", help="what the clients talk to")


@pytest.fixture(scope="session")
def target(request, tmp_path_factory):
    made = targets.make(request.config.getoption("--target"), tmp_path_factory.mktemp("target"))
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def own_target(request, tmp_path):
    """A target this test alone uses, because it will lose a region."""
    made = targets.make(request.config.getoption("--target"), tmp_path / "target")
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture(scope="module")
def tiered_target(request, tmp_path_factory):
    """A target with tiering, for a module's tests."""
    made = targets.make(request.config.getoption("--target"), tmp_path_factory.mktemp("tiered"), tiered=True)
    try:
        yield made.start()
    finally:
        made.stop()


@pytest.fixture
def name(request):
    """A topic or group name of this test's own."""
    return f"{request.node.originalname.removeprefix('test_').replace('_', '-')}-{next(_numbers)}"


@pytest.fixture(autouse=True)
def no_leftovers():
    """A tool that a failed test left running would disturb the next test. Targets and restarted brokers belong to their fixtures."""
    yield
    process.stop_all(only={"VerifiableProducer", "VerifiableConsumer"})
