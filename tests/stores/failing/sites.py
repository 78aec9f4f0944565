"""Real servers whose store fails, and what their clients ask of them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import httpx

from raincheck.http.problems import PROBLEM
from tests.servers.material import content
from tests.stores.failing.backends import Backend, wait_until
from tests.support.processes import ServerProcess

APPLICATION = "tests.stores.failing.application"
SERVERS = {
    "uvicorn": f"-m uvicorn {APPLICATION}:asgi --port {{port}} --log-level warning",
    "gunicorn": (
        f"-m gunicorn {APPLICATION}:wsgi --bind 127.0.0.1:{{port}} --log-level warning "
        # It shall not end itself what a test has frozen.
        "--worker-class gthread --threads 8 --no-control-socket --timeout 600"
    ),
}
# Each store with one of the servers, unless one wants to see all.
USUAL = {"redis": "uvicorn", "postgresql": "gunicorn"}
SEEN = list(SERVERS) if os.environ.get("TEST_ALL_SERVERS") else ["usual"]
LEASE = 5.0  # seconds; a process that a machine under load gives no turn must not lose it
STEADY = 4.0  # seconds; with a timeout of one, those who live have noticed by then
OUTAGE = 1.5 * LEASE
LOOKED = STEADY + 7.0  # seconds until every process has looked for whom it may let go
RECOVERY = LEASE + LOOKED + 15.0  # the same, on a machine under load, and it has let go
MIB = 1024 * 1024
# Both servers have the same application; what is lost is to be seen as lost, and not run again.
USUALLY = {"application": "failing", "budget": 0.2, "drain": 0.5, "max_attempts": 1}
SIZES = [1000, 3 * MIB, 40 * MIB]  # one chunk, many, and more than is kept in memory


class Site:
    """A server process, and the operations that it runs for a test."""

    def __init__(self, command: str, backend: Backend, gates: Path, **options: Any) -> None:
        self._gates = gates
        environment = {
            "TEST_OPTIONS": json.dumps(USUALLY | options),
            "TEST_GATES": str(gates),
            "TEST_LEASE": str(LEASE),
            "TEST_STEADY": str(STEADY),
            "RAINCHECK_STORE": f"{backend.url}?timeout=1",
        }
        self.process = ServerProcess(command.split(), env=environment)
        self.client = httpx.Client(base_url=self.process.url, timeout=60.0, trust_env=False)

    def __enter__(self) -> Site:
        self.process.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()
        self.process.__exit__(None, None, None)

    def stranger(self) -> httpx.Client:
        """Return a client that connects anew for each request.

        A server that wakes up first closes the connections that have been idle for too long.
        """
        never = httpx.Limits(max_keepalive_connections=0)
        return httpx.Client(base_url=self.process.url, timeout=60.0, trust_env=False, limits=never)

    def ask(
        self, name: str, size: int = 1000, *, half: bool = False, deferred: bool = False
    ) -> httpx.Response:
        """Ask for a report, which is to be deferred at once or after the budget."""
        parameters = {"name": name, "size": str(size)} | ({"half": "1"} if half else {})
        headers = {"prefer": "respond-async"} if deferred else {}
        return self.client.post("/report", params=parameters, headers=headers)

    def start(self, name: str, size: int = 1000, *, half: bool = False) -> str:
        """Begin an operation and return the path of R."""
        accepted = self.ask(name, size, half=half)
        assert accepted.status_code == 202, accepted.text
        self.wait_for(name, "started")
        return httpx.URL(accepted.headers["location"]).path

    def let(self, name: str, event: str = "go") -> None:
        """Let a handler go on."""
        (self._gates / f"{name}.{event}").touch()

    def has(self, name: str, event: str) -> bool:
        return (self._gates / f"{name}.{event}").exists()

    def wait_for(self, name: str, event: str) -> None:
        """Wait until a handler has got that far."""
        wait_until(lambda: self.has(name, event), 30.0)

    def follow(self, path: str, seconds: float = 30.0) -> httpx.Response:
        """Poll R, over 503s too, until it is something else than 202."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self.client.get(path)
            if answer.status_code not in (202, 503):
                return answer
            assert time.monotonic() < deadline, f"still {answer.status_code}: {answer.text}"
            time.sleep(0.05)

    def status(self, path: str) -> dict[str, Any]:
        """Fetch M, over 503s too."""
        wait_until(lambda: self.client.get(f"{path}/status").status_code == 200)
        found: dict[str, Any] = self.client.get(f"{path}/status").json()
        return found


def assert_complete(answer: httpx.Response, size: int) -> None:
    assert answer.status_code == 201, answer.text[:500]
    assert answer.content == content(1, size)
    twice = [value for name, value in answer.headers.raw if name.lower() == b"x-twice"]
    assert twice == [b"1", b"\xff2"]


def assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text[:500]
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"] == PROBLEM.decode()
