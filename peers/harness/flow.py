"""A translated flow of our mirror between two clusters somebody else runs: `whimbrel start mirror -c FILE` with one `[[mirror.flow]]`."""

from pathlib import Path

from . import cache
from .process import Child, free_port

CONFIG = """\
# Without controllers this mirror only runs its flow.
[mirror]
region = "between"
admin-listen = "127.0.0.1:{admin}"

[[mirror.flow]]
name = "over-and-back"
source = {source}
target = {target}
topics = ["{topic}"]
groups = ["{group}"]
group-interval = "200ms"
topic-interval = "1s"
replication-factor = 1
"""


class Flow:
    """Runs while the `with` block does."""

    def __init__(self, folder: Path, source: str, target: str, topic: str, group: str, logins: tuple[Path | None, Path | None] = (None, None)):
        """`logins`: files of client properties, of source and target."""
        self.folder = Path(folder)
        source, target = (self._cluster(at, login) for at, login in zip((source, target), logins))
        text = CONFIG.format(admin=free_port(), source=source, target=target, topic=topic, group=group)
        self.config = self.folder / "flow.toml"
        self.config.write_text(text)
        self.child: Child | None = None

    @staticmethod
    def _cluster(bootstrap: str, login: Path | None) -> str:
        return f'{{ bootstrap = "{bootstrap}"' + (f', client-config = "{login}"' if login else "") + " }"

    def __enter__(self) -> "Flow":
        self.child = Child("mirror", [cache.whimbrel(), "start", "mirror", "-c", self.config], self.folder / "mirror.log")
        return self

    def __exit__(self, *_) -> None:
        running = self.child.alive()
        code = self.child.stop()
        assert running and code == 0, f"the mirror ended with {code}\n{self.child.tail()}"
