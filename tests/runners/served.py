"""An application on a server of a test's own, and what its handlers have noted."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx

from tests.servers.servers import http_client, wait_until
from tests.support.processes import ServerProcess, children

STARTED = 60.0  # seconds; a machine under load is slow


class WorkerProcess(ServerProcess):
    """A worker, its children in its process group."""

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


class Served:
    """The web process, and what it and its workers are told and tell.

    Args:
        command: What serves the application.
        environment: Of all processes.
        periods: raincheck's, in seconds: `lease`, `again`, `look`, `steady`.
        options: raincheck's.
    """

    def __init__(
        self,
        directory: Path,
        command: list[str],
        environment: Mapping[str, str],
        periods: Mapping[str, float] | None,
        options: Mapping[str, object],
    ) -> None:
        self.directory = directory
        self._journal = directory / "journal"
        self._stack = ExitStack()
        self.environment = {
            "TEST_OPTIONS": json.dumps(options),
            "TEST_JOURNAL": str(self._journal),
            **{f"TEST_{name.upper()}": str(value) for name, value in (periods or {}).items()},
            **environment,
        }
        self.web = ServerProcess(command, env=self.environment)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.web)
            self.client = stack.enter_context(http_client(self.web.url))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

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
