"""A web server, an engine's workers, and what they share, all of them a test's own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import httpx

from tests.servers.servers import UVICORN, http_client, wait_until
from tests.support.processes import ServerProcess, children

STARTED = 60.0  # seconds; a machine under load is slow
TASKS = "tests.runners.engines.{}_tasks"
COMMANDS = {
    "procrastinate": (
        f"-m procrastinate --app {TASKS.format('procrastinate')}.app worker -q raincheck "
        "--concurrency 8 --fetch-job-polling-interval 1"
    ),
    "dramatiq": (
        f"-m dramatiq {TASKS.format('dramatiq')} --processes 1 --threads 4 --skip-logging"
    ),
    "rq": "-m rq.cli worker raincheck --url {broker}",
    "rq-simple": "-m rq.cli worker raincheck --url {broker} --worker-class rq.SimpleWorker",
}


class Worker(ServerProcess):
    """A worker of an engine: nobody connects to it, and what it is told before it begins waits."""

    def _accepts(self) -> bool:
        return True

    @property
    def family(self) -> list[int]:
        """Its processes."""
        found = [self.pid]
        for pid in found:
            found += children(pid)
        return found

    def freeze(self, number: int = signal.SIGSTOP) -> None:
        """Stop all of it where it is, or with SIGCONT let it go on."""
        for pid in self.family:
            os.kill(pid, number)


class Site:
    """An application on a server, and workers.

    Args:
        engine: One of `COMMANDS`.
        where: Names of the environment that say where things are: `TEST_BROKER`,
            `TEST_DATABASE`, `RAINCHECK_STORE`.
        periods: raincheck's, in seconds: `lease`, `again`, `look`, `steady`.
        options: raincheck's.
    """

    def __init__(
        self,
        engine: str,
        directory: Path,
        where: Mapping[str, str],
        *,
        periods: Mapping[str, float] | None = None,
        **options: object,
    ) -> None:
        self.directory = directory
        self._journal = directory / "journal"
        self._stack = ExitStack()
        self._command = COMMANDS[engine].format(broker=where.get("TEST_BROKER"))
        self.environment = {
            "TEST_ENGINE": engine.partition("-")[0],
            "TEST_WORKER": "SimpleWorker" if engine == "rq-simple" else "",
            "TEST_OPTIONS": json.dumps(options),
            "TEST_JOURNAL": str(self._journal),
            "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]),
            **{f"TEST_{name.upper()}": str(value) for name, value in (periods or {}).items()},
            **where,
        }
        command = [
            part.replace("{app}", "tests.runners.engines.application:app")
            for part in UVICORN.split()
        ]
        self.web = ServerProcess(command, env=self.environment)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.web)
            self.client = stack.enter_context(http_client(self.web.url))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @contextmanager
    def worker(self, *more: str) -> Iterator[Worker]:
        """Run a worker, with more arguments."""
        with Worker([*self._command.split(), *more], env=self.environment) as worker:
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

    def gate(self, name: str) -> Path:
        """Return the file that lets a handler end."""
        return self.directory / f"{name}.gate"

    def start(self, name: str, method: str = "POST", **asked: str | Path) -> str:
        """Have an operation accepted; return the path of R."""
        parameters = {"name": name, **{key: str(value) for key, value in asked.items()}}
        accepted = self.client.request(method, "/report", params=parameters)
        assert accepted.status_code == 202, accepted.text
        return httpx.URL(accepted.headers["location"]).path

    def end(self, path: str, seconds: float = STARTED) -> httpx.Response:
        """Wait until an operation is over; return R."""

        def is_over() -> bool:
            answer = self.client.get(path, headers={"Prefer": "wait=1"})
            return answer.status_code not in (202, 503)

        wait_until(is_over, f"the end of {path}", seconds)
        return self.client.get(path)
