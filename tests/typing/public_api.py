"""The public names as their users type them; never run, only checked (mypy and pyright, strict)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from raincheck import CurrentOperation, Limits, current_operation, long_running, open_store
from raincheck.asgi import RaincheckMiddleware
from raincheck.contracts import Store
from raincheck.starlette import MonitorResponse, monitor_routes, status_url


@long_running
async def report(request: Request, *, pages: int = 1) -> Response:
    operation = current_operation()
    assert_type(operation, CurrentOperation)
    operation.progress(1, total=pages, message="rendering")
    operation.raise_if_cancelled()
    assert_type(operation.cancelled, bool)
    assert_type(operation.id, str | None)
    return MonitorResponse(operation.id or "")


@long_running()
def export(n: int) -> str:
    return str(n)


@long_running
def pieces(n: int) -> Iterator[bytes]:
    yield b""


class Endpoint:
    @long_running
    async def get(self, request: Request) -> AsyncIterator[bytes]:
        yield b""


async def check(request: Request) -> None:
    assert_type(await report(request, pages=2), Response)
    assert_type(export(1), str)
    assert_type(pieces(1), Iterator[bytes])


def owner(scope: dict[str, Any]) -> str | None:
    return None


store: Store = open_store("memory:")
app = Starlette(routes=[Mount("/jobs", routes=monitor_routes())])
app.add_middleware(RaincheckMiddleware, budget=2.0, status_url=status_url, owner=owner)
wrapped = RaincheckMiddleware(
    app,
    budget=None,
    mode="prefer",
    include=["/a/**"],
    exclude=["/b"],
    budgets={"/c": 0, "/d": None},
    max_wait=5,
    prefix="/ops",
    location="relative",
    dialect="see-other",
    retention=60,
    keep_cookies=True,
    limits=Limits(operations=10),
    drain=1,
    store=store,
)
listed = Middleware(RaincheckMiddleware, limits={"operations": 10}, public_url="https://e.org")
