"""A web server, Celery's workers, a broker and a store, all of them a test's own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.servers.servers import UVICORN, http_client, wait_until
from tests.support.processes import ServerProcess, children, free_port

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
STARTED = 60.0  # seconds; a machine under load is slow


class CeleryWorker(ServerProcess):
    """A worker of Celery, its children in its process group."""

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

    def freeze(self, number: int = signal.SIGSTOP) -> None:
        """Stop all of it where it is, or with SIGCONT let it go on."""
        for pid in (self.pid, *children(self.pid)):
            os.kill(pid, number)


class Site:
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
        self.directory = directory
        self._journal = directory / "journal"
        self._stack = ExitStack()
        self.environment = {
            "TEST_OPTIONS": json.dumps(options),
            "TEST_JOURNAL": str(self._journal),
            "TEST_BROKER": broker,
            "TEST_QUEUE": queue,
            "TEST_APP": app,
            "RAINCHECK_STORE": store or f"sqlite://{directory / 'operations.db'}",
            **{f"TEST_{name.upper()}": str(value) for name, value in (periods or {}).items()},
        }
        command = [part.replace("{app}", APPLICATION) for part in SERVERS[app].split()]
        self.web = ServerProcess(command, env=self.environment)

    def __enter__(self) -> Site:
        with ExitStack() as stack:
            stack.enter_context(self.web)
            self.client = stack.enter_context(http_client(self.web.url))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @contextmanager
    def worker(self, pool: str = "threads") -> Iterator[CeleryWorker]:
        """Run a worker."""
        with CeleryWorker(pool, self.environment) as worker:
            yield worker

    def journal(self) -> list[str]:
        """Return what handlers have noted so far: what, name, process, `again`."""
        return self._journal.read_text().splitlines() if self._journal.exists() else []

    def noted(self, what: str, name: str) -> list[int]:
        """Return the processes in which a handler has noted something."""
        lines = [line.split() for line in self.journal()]
        return [int(line[2]) for line in lines if line[:2] == [what, name]]

    def wait_for(self, what: str, name: str, times: int = 1) -> int:
        """Wait until a handler has noted something so often; return the process of the last."""
        wait_until(lambda: len(self.noted(what, name)) >= times, f"{what} {name}", STARTED)
        return self.noted(what, name)[-1]

    def start(self, name: str, path: str = "/report", **asked: str | float) -> str:
        """Have an operation accepted; return the path of R."""
        accepted = self.client.post(path, params={"name": name, **asked})
        return location(accepted)

    def gate(self, name: str) -> Path:
        """Return the file that lets a handler end."""
        return self.directory / f"{name}.gate"

    def end(self, path: str, seconds: float = STARTED) -> httpx.Response:
        """Wait until an operation is over; return R."""

        def is_over() -> bool:
            answer = self.client.get(path, headers={"Prefer": "wait=1"})
            return answer.status_code not in (202, 503)

        wait_until(is_over, f"the end of {path}", seconds)
        return self.client.get(path)

    def status(self, path: str) -> dict[str, object]:
        """Fetch M."""
        document: dict[str, object] = self.client.get(f"{path}/status").json()
        return document


def location(accepted: httpx.Response) -> str:
    """Return the path of R of a 202."""
    assert accepted.status_code == 202, accepted.text
    return httpx.URL(accepted.headers["location"]).path
