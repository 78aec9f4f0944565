"""The public names as their users type them; never run, only checked (mypy and pyright, strict)."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from raincheck import (
    CurrentOperation,
    Limits,
    current_operation,
    is_rerun,
    long_running,
    open_store,
)
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
    assert_type(is_rerun(), bool)
    return MonitorResponse(operation.id or "")


@long_running()
def export(n: int) -> str:
    return str(n)


@long_running(retry=True, timeout=5)
async def repeatable(request: Request, *, pages: int = 1) -> Response:
    return Response()


@long_running(retry=None, timeout=0.5)
def bounded(n: int) -> str:
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
    assert_type(await repeatable(request, pages=2), Response)
    assert_type(export(1), str)
    assert_type(bounded(1), str)
    assert_type(pieces(1), Iterator[bytes])


def owner(scope: dict[str, Any]) -> str | None:
    return None


def webhook(scope: dict[str, Any]) -> str | None:
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
under_fire = RaincheckMiddleware(
    app,
    owner=owner,
    application="exports",
    timeout=600,
    retry={"/imports/**": True},
    max_attempts=2,
    abandon_after=60.0,
    idempotency_keys=False,
    coalesce=["/search"],
    url_secret=["a new secret, and long", "an old secret, and long"],
    url_lifetime=60,
    encryption_key="0" * 43 + "=",
    webhook=webhook,
    webhook_secret="whsec_" + "0" * 32,
    webhook_networks=["10.1.0.0/16"],
    limits=Limits(operations_per_owner=5, operations_in_store=None, spooled=0, pollers=10),
)
one_of_each = RaincheckMiddleware(
    app,
    url_secret=os.environ["URL_SECRET"],
    encryption_key=("0" * 43 + "=",),
    webhook="https://example.org/hook",
    timeout=None,
    retry=None,
    webhook_networks=("10.1.0.0/16",),
)
