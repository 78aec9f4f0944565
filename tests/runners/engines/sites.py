"""A web server, an engine's workers, and what they share, all of them a test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.runners.served import Served, WorkerProcess, location
from tests.servers.servers import UVICORN

APPLICATION = "tests.runners.engines.application:app"
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


class Worker(WorkerProcess):
    """A worker of an engine: nobody connects to it, and what it is told before it begins waits."""

    def _accepts(self) -> bool:
        return True


class Site(Served):
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
        self._command = COMMANDS[engine].format(broker=where.get("TEST_BROKER"))
        environment = {
            "TEST_ENGINE": engine.partition("-")[0],
            "TEST_WORKER": "SimpleWorker" if engine == "rq-simple" else "",
            "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]),
            **where,
        }
        command = [part.replace("{app}", APPLICATION) for part in UVICORN.split()]
        super().__init__(directory, command, environment, periods, options)

    @contextmanager
    def worker(self, *more: str) -> Iterator[Worker]:
        """Run a worker, with more arguments."""
        with Worker([*self._command.split(), *more], env=self.environment) as worker:
            yield worker

    def start(self, name: str, method: str = "POST", **asked: str | Path) -> str:
        """Have an operation accepted; return the path of R."""
        parameters = {"name": name, **{key: str(value) for key, value in asked.items()}}
        return location(self.client.request(method, "/report", params=parameters))
