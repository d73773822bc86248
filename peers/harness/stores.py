"""MinIO and Toxiproxy as child processes."""

import http.client
import json
from pathlib import Path

from . import cache
from .process import Child, free_port, listening

USER = "whimbrel"
PASSWORD = "whimbrel-secret"


class Minio:
    """An S3 store on loopback. Buckets are folders of its data directory and are made by the caller with `bucket`."""

    def __init__(self, folder: Path, port: int | None = None):
        self.folder = Path(folder)
        self.data = self.folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.child: Child | None = None

    def start(self) -> "Minio":
        env = {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD, "MINIO_CI_CD": "1", "MINIO_BROWSER": "off"}
        command = [cache.minio(), "server", "--quiet", "--address", f"127.0.0.1:{self.port}", self.data]
        self.child = Child("minio", command, self.folder / "minio.log", env=env)
        self.child.wait_until(self._ready, "ready")
        return self

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/minio/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def bucket(self, name: str) -> str:
        """Makes a bucket (before `start`: MinIO takes the folders it finds) and returns its URL for `--bucket`."""
        (self.data / name).mkdir(exist_ok=True)
        return f"s3://{name}?endpoint={self.endpoint}&region=us-east-1"

    @staticmethod
    def credentials() -> dict:
        return {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": PASSWORD}

    def kill(self) -> None:
        self.child.kill()

    def stop(self) -> None:
        if self.child:
            self.child.stop()


class Toxiproxy:
    """Toxiproxy with its HTTP API on `port`."""

    def __init__(self, folder: Path, port: int | None = None):
        self.folder = Path(folder)
        self.port = port or free_port()
        self.child: Child | None = None

    def start(self) -> "Toxiproxy":
        self.child = Child("toxiproxy", [cache.toxiproxy(), "-host", "127.0.0.1", "-port", self.port], self.folder / "toxiproxy.log")
        self.child.wait_until(lambda: listening(self.port), "listening")
        return self

    def call(self, method: str, path: str, body: dict | None = None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body=json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status >= 300:
                raise OSError(f"toxiproxy {method} {path}: {answer.status} {text.decode(errors='replace')}")
            return json.loads(text) if text else None
        finally:
            connection.close()

    def proxy(self, name: str, listen: int, upstream: int) -> None:
        self.call("POST", "/proxies", {"name": name, "listen": f"127.0.0.1:{listen}", "upstream": f"127.0.0.1:{upstream}", "enabled": True})

    def enable(self, name: str, enabled: bool) -> None:
        self.call("POST", f"/proxies/{name}", {"enabled": enabled})

    def stop(self) -> None:
        if self.child:
            self.child.stop()
