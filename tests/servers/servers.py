"""How each server is started, and what it can't do by its nature."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from raincheck.contracts import Filter
from raincheck.operations.operation import Operation
from raincheck.stores.sqlite import SQLiteStore
from tests.support.processes import ServerProcess

TIMEOUT = 30.0  # seconds; a machine under load is slow
NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # to read them takes longer than a test
DEFERRED: dict[str, float] = {
    "deferred": 1
}  # in a query: the handler ends after the 202, however long that takes


@dataclass(frozen=True)
class Kind:
    """One way to serve an application.

    Attributes:
        command: What follows the interpreter; `{app}` stands for the application.
        has_lifespan: Whether it tells the application of start-up and shutdown.
        starts_before_body: Whether the application runs while the request is still arriving.
    """

    name: str
    command: str
    has_lifespan: bool = True
    starts_before_body: bool = True


UVICORN = "-m uvicorn {app} --port {port} --log-level warning --no-access-log"
HYPERCORN = "-m hypercorn {app} --bind 127.0.0.1:{port}"
SERVERS = [
    Kind("uvicorn-httptools-uvloop", f"{UVICORN} --http httptools --loop uvloop"),
    Kind("uvicorn-h11-asyncio", f"{UVICORN} --http h11 --loop asyncio"),
    Kind("hypercorn-asyncio", f"{HYPERCORN} --worker-class asyncio"),
    Kind("hypercorn-trio", f"{HYPERCORN} --worker-class trio"),
    Kind("granian", "-m granian {app} --interface asgi --host 127.0.0.1 --port {port}"),
    Kind(
        "daphne",
        "-m daphne {app} --port {port} --verbosity 0",
        has_lifespan=False,
        starts_before_body=False,
    ),
]
ANY = SERVERS[0]


class Site:
    """An application on a server, with a store and a journal in one directory.

    Args:
        app: The name of an application in `application.py`.
        arguments: More arguments for the server.
        store: Whether to name a store; without, raincheck chooses its default.
        options: Raincheck's.
    """

    def __init__(
        self,
        kind: Kind,
        directory: Path,
        *,
        app: str = "app",
        arguments: tuple[str, ...] = (),
        store: bool = True,
        **options: Any,
    ) -> None:
        self.kind = kind
        self.database = directory / "operations.db"
        self._journal = directory / "journal"
        environment = {
            "TEST_OPTIONS": json.dumps(options),
            "TEST_JOURNAL": str(self._journal),
            "RAINCHECK_STORE": f"sqlite://{self.database}" if store else "",
            "XDG_STATE_HOME": str(directory / "state"),
        }
        target = f"tests.servers.application:{app}"
        command = [part.replace("{app}", target) for part in kind.command.split()]
        self.process = ServerProcess([*command, *arguments], env=environment)

    @property
    def url(self) -> str:
        """Where the application's root is."""
        return self.process.url

    def journal(self) -> list[str]:
        """Return what the application has noted so far."""
        return self._journal.read_text().splitlines() if self._journal.exists() else []

    def wait_for(self, event: str) -> None:
        """Wait until the application has noted `event`."""
        wait_until(lambda: event in self.journal(), f"{event!r} in {self.journal()}")

    def operations(self, route: str) -> list[Operation]:
        """Look into the store for the operations of one path."""
        store = SQLiteStore(self.database)
        try:
            found, _ = store.find(Filter(), limit=10_000)
        finally:
            store.close()
        return [operation for operation in found if operation.route == route]


def wait_until(condition: Callable[[], bool], what: str, timeout: float = TIMEOUT) -> None:
    """Return as soon as `condition` holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.02)


def http_client(url: str = "", **options: Any) -> httpx.Client:
    """Return a client that takes nothing from the environment of the tests."""
    return httpx.Client(
        base_url=url, timeout=TIMEOUT, trust_env=False, verify=NO_AUTHORITIES, **options
    )


def status(client: httpx.Client, start: httpx.Response) -> dict[str, Any]:
    """Fetch the status document of the operation that a 202 told of."""
    response = client.get(start.url.join(start.headers["operation-location"]))
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document
