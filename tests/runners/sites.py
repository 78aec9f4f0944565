"""A web server, Celery's workers, a broker and a store, all of them a test's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.runners.served import Served, WorkerProcess, location
from tests.servers.servers import UVICORN
from tests.support.processes import free_port

APPLICATION = "tests.runners.application:app"
GUNICORN = "-m gunicorn {app} --bind 127.0.0.1:{port} --worker-class gthread --threads 8"
SERVERS = {"asgi": UVICORN, "wsgi": f"{GUNICORN} --log-level warning --no-control-socket"}
POOLS = {
    "prefork": ("--pool", "prefork", "--concurrency", "2"),
    "threads": ("--pool", "threads", "--concurrency", "8"),
    "gevent": ("--pool", "gevent", "--concurrency", "8"),
    "solo": ("--pool", "solo"),
}
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")


class CeleryWorker(WorkerProcess):
    """A worker of Celery."""

    def __init__(self, pool: str, env: Mapping[str, str]) -> None:
        self.name = f"test{free_port()}"
        command = ["-m", "celery", "-A", "tests.runners.celery_app", "worker", "-l", "INFO"]
        super().__init__([*command, *QUIET, "-n", f"{self.name}@%h", *POOLS[pool]], env=env)

    def _accepts(self) -> bool:
        return f"celery@{self.name}" in self._printed() or " ready." in self._printed()

    @property
    def printed(self) -> str:
        """What it has said so far."""
        return self._printed()


class Site(Served):
    """An application on a server, and its workers.

    Args:
        broker: URL of Celery's broker.
        store: URL of raincheck's store; by default a file.
        app: `asgi` or `wsgi`.
        periods: raincheck's, in seconds: `lease`, `again`, `look`, `steady`.
        options: raincheck's.
    """

    def __init__(
        self,
        directory: Path,
        broker: str,
        store: str | None = None,
        *,
        app: str = "asgi",
        queue: str = "celery",
        periods: Mapping[str, float] | None = None,
        **options: object,
    ) -> None:
        environment = {
            "TEST_BROKER": broker,
            "TEST_QUEUE": queue,
            "TEST_APP": app,
            "RAINCHECK_STORE": store or f"sqlite://{directory / 'operations.db'}",
        }
        command = [part.replace("{app}", APPLICATION) for part in SERVERS[app].split()]
        super().__init__(directory, command, environment, periods, options)

    @contextmanager
    def worker(self, pool: str = "threads") -> Iterator[CeleryWorker]:
        """Run a worker."""
        with CeleryWorker(pool, self.environment) as worker:
            yield worker

    def start(self, name: str, path: str = "/report", **asked: str | float) -> str:
        """Have an operation accepted; return the path of R."""
        accepted = self.client.post(path, params={"name": name, **asked})
        return location(accepted)
