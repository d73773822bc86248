"""Where the fetched parts lie. `fetch.sh` puts them there; nothing here downloads anything."""

import os
from pathlib import Path

FOLDER = Path(os.environ.get("WHIMBREL_CACHE") or Path.home() / ".cache" / "whimbrel")


def part(variable: str, path: Path) -> Path:
    """The part's path: the environment variable if set, else its place in the cache. It must exist."""
    found = Path(os.environ.get(variable) or path)
    if not found.exists():
        raise FileNotFoundError(f"{found} is missing: run peers/fetch.sh, or set {variable}")
    return found


def kafka_libs() -> Path:
    return part("WHIMBREL_KAFKA_LIBS", FOLDER / "kafka" / "libs")


def minio() -> Path:
    return part("WHIMBREL_MINIO", FOLDER / "bin" / "minio")


def toxiproxy() -> Path:
    return part("WHIMBREL_TOXIPROXY", FOLDER / "bin" / "toxiproxy")


def whimbrel() -> Path:
    """The binary under test, as cargo built it."""
    target = Path(os.environ.get("CARGO_TARGET_DIR") or Path(__file__).parents[2] / "target")
    return part("WHIMBREL_BIN", target / "release" / "whimbrel")
