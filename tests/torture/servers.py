"""The servers that are tortured: three of uvicorn, or four workers of one gunicorn.

Or three workers without a server, that run what one of uvicorn accepts, which is left in peace.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import STDOUT, Popen, TimeoutExpired
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.servers.servers import UVICORN
from tests.servers.wsgi_servers import GTHREAD
from tests.support.processes import ROOT, ServerProcess, children
from tests.torture.journal import HANDLERS, SERVERS

KINDS = ("uvicorn", "gunicorn", "workers")
PROCESSES = {"uvicorn": 3, "gunicorn": 4, "workers": 3}
ENDS_WITHIN = 40.0  # seconds in which a server that was asked to end must have ended
_MODULE = "tests.torture.applications"
_COMMANDS = {
    "uvicorn": UVICORN.replace("{app}", f"{_MODULE}:asgi") + " --timeout-graceful-shutdown 2",
    # It shall not end itself what the schedule has frozen.
    "gunicorn": GTHREAD[0].command.replace("{app}", f"{_MODULE}:wsgi")
    + f" --threads 8 --workers {PROCESSES['gunicorn']} --timeout 600 --graceful-timeout 8",
}

WORK = [
    *(sys.executable, "-m", "raincheck", "work", f"{_MODULE}:asgi"),
    *("--queue", "workers", "--concurrency", "12"),
]


@dataclass(frozen=True)
class Surroundings:
    """What the servers of a run are given.

    Attributes:
        directory: For their journal, logs and temporary files.
        options: Raincheck's.
        constants: Of raincheck's modules, by name.
    """

    directory: Path
    store_url: str
    options: Mapping[str, Any]
    constants: Mapping[str, float] = field(default_factory=dict)

    @property
    def temporary(self) -> Path:
        """Where the servers' temporary files are."""
        return self.directory / "temporary"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that `applications` and raincheck read."""
        return {
            "RAINCHECK_STORE": self.store_url,
            "TEST_OPTIONS": json.dumps(dict(self.options)),
            "TEST_JOURNAL": str(self.directory / HANDLERS),
            "TORTURE_CONSTANTS": json.dumps(dict(self.constants)),
            "TMPDIR": str(self.temporary),
        }


class Fleet(ABC):
    """Server processes, each of which can be struck by its number."""

    def __init__(self, kind: str, count: int, surroundings: Surroundings) -> None:
        surroundings.temporary.mkdir(exist_ok=True)
        command, environment = _COMMANDS[kind].split(), surroundings.environment
        self._servers = [ServerProcess(command, env=environment) for _ in range(count)]
        self._directory = surroundings.directory
        self._opened = ExitStack()

    @property
    def urls(self) -> list[str]:
        """Where each of them is."""
        return [server.url for server in self._servers]

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            for server in self._servers:
                opened.enter_context(server)
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for server in self._servers:
            self._keep_log(server)
        self._opened.close()

    def _keep_log(self, server: ServerProcess) -> None:
        with (self._directory / SERVERS).open("a") as log:
            log.write(f"--- {server.url}\n{server.kill()}\n")

    def end(self) -> list[str]:
        """Ask all of them to end, and return those that have not in time."""
        for server in self._servers:
            server.signal(signal.SIGTERM)
        return [server.url for server in self._servers if not _has_ended(server)]

    def freeze(self, pid: int) -> None:
        """Stop a process where it is."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)

    def thaw(self, pid: int) -> None:
        """Let it go on."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    @abstractmethod
    def pids(self) -> list[int]:
        """Return the ids of the processes that run handlers now."""

    @abstractmethod
    def pid(self, target: int) -> int:
        """Return the id of the process that has this number now."""

    @abstractmethod
    def kill(self, target: int, pid: int) -> None:
        """Kill it."""

    @abstractmethod
    def terminate(self, target: int, pid: int) -> None:
        """Ask it to end, and wait until it has.

        Raises:
            TimeoutError, TimeoutExpired: It has not, in time; then it is killed.
        """

    @abstractmethod
    def revive(self, target: int) -> None:
        """Have another process in its place."""


class UvicornFleet(Fleet):
    """Three servers on three ports."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__("uvicorn", PROCESSES["uvicorn"], surroundings)

    def pids(self) -> list[int]:
        return [server.pid for server in self._servers]

    def pid(self, target: int) -> int:
        return self._servers[target].pid

    def kill(self, target: int, pid: int) -> None:
        self._servers[target].kill()

    def terminate(self, target: int, pid: int) -> None:
        server = self._servers[target]
        try:
            server.terminate(ENDS_WITHIN)
        finally:
            server.kill()

    def revive(self, target: int) -> None:
        self._servers[target].start()


class GunicornFleet(Fleet):
    """One port and four workers, which their master replaces."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__("gunicorn", 1, surroundings)

    def pids(self) -> list[int]:
        return children(self._servers[0].pid)

    def pid(self, target: int) -> int:
        found = sorted(_until(self.pids, ENDS_WITHIN))
        return found[target % len(found)]

    def kill(self, target: int, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def terminate(self, target: int, pid: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        try:
            _until(lambda: pid not in self.pids(), ENDS_WITHIN)
        except TimeoutError:
            self.kill(target, pid)
            raise

    def revive(self, target: int) -> None:
        count = PROCESSES["gunicorn"]
        _until(lambda: len(self.pids()) >= count, ENDS_WITHIN)


class WorkersFleet(Fleet):
    """One port, and three workers that nobody replaces but this."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__("uvicorn", 1, surroundings)
        self._environment = os.environ | surroundings.environment
        self._workers: list[Popen[bytes]] = []

    def __enter__(self) -> Self:
        super().__enter__()
        self._workers = [self._begin() for _ in range(PROCESSES["workers"])]
        return self

    def __exit__(self, *exc_info: Any) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()
        super().__exit__(*exc_info)

    def _begin(self) -> Popen[bytes]:
        with (self._directory / SERVERS).open("ab") as log:
            return Popen(WORK, env=self._environment, stdout=log, stderr=STDOUT, cwd=ROOT)

    def end(self) -> list[str]:
        for worker in self._workers:
            worker.terminate()
        late = [str(worker.pid) for worker in self._workers if not _has_ended(worker)]
        return late + super().end()

    def pids(self) -> list[int]:
        return [self._servers[0].pid, *(worker.pid for worker in self._workers)]

    def pid(self, target: int) -> int:
        return self._workers[target].pid

    def kill(self, target: int, pid: int) -> None:
        self._workers[target].kill()
        self._workers[target].wait()

    def terminate(self, target: int, pid: int) -> None:
        worker = self._workers[target]
        worker.terminate()
        try:
            worker.wait(ENDS_WITHIN)
        finally:
            self.kill(target, pid)

    def revive(self, target: int) -> None:
        self._workers[target] = self._begin()


FLEETS: dict[str, type[UvicornFleet] | type[GunicornFleet] | type[WorkersFleet]] = {
    "uvicorn": UvicornFleet,
    "gunicorn": GunicornFleet,
    "workers": WorkersFleet,
}


def _has_ended(server: ServerProcess | Popen[bytes]) -> bool:
    try:
        server.wait(ENDS_WITHIN)
    except TimeoutExpired:
        return False
    return True


_T = TypeVar("_T")


def _until(condition: Callable[[], _T], seconds: float) -> _T:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.02)
    return value
