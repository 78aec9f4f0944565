"""The application of `test_promises`, for ASGI and for WSGI: handlers that go on when they may.

A handler of `/report?name=…&size=…` says in the directory TEST_GATES that it has started (a file
`….started`), waits for `….go`, and answers with so many bytes; with `&half=1` it also says when it
has sent one half (`….half`) and waits for `….rest`. However it ends it says `….over`. When it is
run again, all these names end in `-again`. TEST_LEASE is raincheck's lease in seconds, and
TEST_STEADY how long a store must have answered before leases count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

import anyio
from starlette.types import Receive, Scope, Send

from raincheck import current_operation, is_rerun
from raincheck.asgi import RaincheckMiddleware as ASGIMiddleware
from raincheck.engine import process, recovery
from raincheck.wsgi import RaincheckMiddleware as WSGIMiddleware
from tests.servers.material import OPTIONS, content

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

GATES = Path(os.environ.get("TEST_GATES", "."))
PARTS = 8  # of a body
process.LEASE = float(os.environ.get("TEST_LEASE", process.LEASE))
recovery.STEADY = float(os.environ.get("TEST_STEADY", recovery.STEADY))


class Report:
    """What one request asks for."""

    def __init__(self, query: str) -> None:
        self._asked = dict(parse_qsl(query))

    def _gate(self, event: str) -> Path:
        return GATES / f"{self._asked['name']}.{event}{'-again' if is_rerun() else ''}"

    def say(self, event: str) -> None:
        """Tell the test how far it is."""
        self._gate(event).touch()

    def wait(self, event: str) -> None:
        """Wait until the test lets it go on.

        Raises:
            OperationCancelled: It is to stop.
        """
        while not self._gate(event).exists():
            current_operation().raise_if_cancelled()
            time.sleep(0.02)

    def parts(self) -> Iterator[tuple[bytes, bool]]:
        """Yield the body's parts, and whether to wait after one."""
        body = content(1, int(self._asked["size"]))
        size = -(-len(body) // PARTS)
        for n in range(PARTS):
            half = n == PARTS // 2 - 1 and "half" in self._asked
            yield body[n * size : (n + 1) * size], half


async def _wait(report: Report, event: str) -> None:
    await anyio.to_thread.run_sync(report.wait, event, abandon_on_cancel=True)


async def _handler(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    report = Report(scope["query_string"].decode())
    report.say("started")
    try:
        await _wait(report, "go")
        headers = [(b"x-twice", b"1"), (b"x-twice", b"\xff2"), (b"x-process", b"%d" % os.getpid())]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        for part, half in report.parts():
            await send({"type": "http.response.body", "body": part, "more_body": True})
            if half:
                report.say("half")
                await _wait(report, "rest")
        await send({"type": "http.response.body", "body": b""})
        report.say("finished")
    finally:
        report.say("over")


def _wsgi_handler(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    report = Report(environ["QUERY_STRING"])
    report.say("started")
    try:
        report.wait("go")
        fields = [("X-Twice", "1"), ("X-Twice", "\xff2"), ("X-Process", str(os.getpid()))]
        start_response("201 Created", fields)
        for part, half in report.parts():
            yield part
            if half:
                report.say("half")
                report.wait("rest")
        report.say("finished")
    finally:
        report.say("over")


asgi = ASGIMiddleware(_handler, **OPTIONS)
wsgi = WSGIMiddleware(_wsgi_handler, **OPTIONS)
