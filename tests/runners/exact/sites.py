"""A server and a worker of each application."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from tests.runners.exact.wire import TIMEOUT, Answer, Asked, ask
from tests.runners.served import Served, WorkerProcess
from tests.servers.servers import UVICORN
from tests.support.processes import ROOT, children
from tests.support.real_servers import RedisServer

GUNICORN = (
    "-m gunicorn {app} --bind 127.0.0.1:{port} --worker-class gthread --threads 8 "
    "--log-level warning --no-control-socket"
)
_OF = "tests.runners.exact"
TARGETS = {
    "starlette": (f"{_OF}.starlette_app:app", UVICORN),
    "flask": (f"{_OF}.flask_app:app", GUNICORN),
    "django": (f"{_OF}.django_wsgi:application", GUNICORN),
    "fastapi": (f"{_OF}.fastapi_app:app", UVICORN),
    "django-asgi": (f"{_OF}.django_asgi:application", UVICORN),
}
WORK = "-m raincheck work {app} --queue workers"
CELERY = (
    "-m celery -A tests.runners.exact.tasks worker -l INFO --pool threads --concurrency 4 "
    "--without-gossip --without-mingle --without-heartbeat -n exact{port}@%h"
)


class Worker(WorkerProcess):
    """A worker: what it is told before it begins waits."""

    def _accepts(self) -> bool:
        return True


class Site:
    """An application on a server, with a worker."""

    def __init__(self, served: Served, worker: Worker, root: str, is_stripped: bool) -> None:
        self.served = served
        self.worker = worker
        self._root = root
        self._is_stripped = is_stripped

    def ask(self, asked: Asked) -> Answer:
        """Ask the server, as a proxy does that may strip the root path."""
        root = "" if self._is_stripped else self._root
        return ask(self.served.web.port, replace(asked, root=root))

    def processes(self) -> list[int]:
        """Return the processes of the server and of the worker."""
        web = self.served.web.pid
        return [web, *children(web), *self.worker.family]

    def end(self, accepted: Answer, *headers: tuple[str, str]) -> Answer:
        """Wait for the end of what was accepted, and return R; what was not is as it is."""
        if accepted.status != 202:
            return accepted
        path = httpx.URL(accepted["location"]).raw_path.decode()
        deadline = time.monotonic() + TIMEOUT
        poll = Asked(path.removeprefix(self._root), headers=headers)
        while self.ask(poll.adding(("Prefer", "wait=5"))).status in (202, 503):
            assert time.monotonic() < deadline, "waited in vain"
        return self.ask(poll)


@contextmanager
def open_site(
    framework: str,
    directory: Path,
    root: str = "",
    broker: RedisServer | None = None,
    **options: object,
) -> Iterator[Site]:
    """Start an application and its worker.

    Args:
        root: Where the application is mounted.
        broker: Of Celery, whose worker it is then; else the built-in one.
        options: raincheck's.
    """
    target, command = TARGETS[framework]
    environment = {
        "RAINCHECK_STORE": f"sqlite://{directory / 'operations.db'}",
        "TEST_DATABASE": str(directory / "django.db"),
        "TEST_TARGET": target,
        "PYTHONHASHSEED": "0",  # Starlette's `Allow` is in the order of a set
        **({"TEST_BROKER": broker.url} if broker is not None else {}),
    }
    if framework.startswith("django"):
        migrate = [sys.executable, "-m", f"{_OF}.django_app"]
        subprocess.run(migrate, cwd=ROOT, env=os.environ | environment, check=True)
    web = environment | ({"SCRIPT_NAME": root} if root and command == GUNICORN else {})
    more = ["--root-path", root] if root and command == UVICORN else []
    words = [part.replace("{app}", target) for part in command.split()] + more
    work = (WORK if broker is None else CELERY).replace("{app}", target).split()
    served = Served(directory, words, web, None, options)
    with served, Worker(work, env=served.environment | environment) as worker:
        yield Site(served, worker, root, is_stripped=command == UVICORN)
