"""The demo's application: Starlette, a few slow handlers, and raincheck around them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from raincheck.asgi import RaincheckMiddleware
from raincheck.cli.demo.archive import build_archive
from raincheck.cli.demo.instructions import BROKEN_AFTER, BUDGET, instructions
from raincheck.cli.demo.library import UnknownPackage, all_source_files, source_files
from raincheck.cli.demo.page import page
from raincheck.handler import long_running
from raincheck.http.preferences import prefers

FORM = "application/x-www-form-urlencoded"
PIECE = 64 * 1024  # bytes


async def index(request: Request) -> Response:
    """Say what there is to try, in a shell or in a browser."""
    url = str(request.base_url).rstrip("/")
    accept = request.headers.get("accept", "").encode("latin-1")
    if prefers(accept, b"text/html", over=b"text/plain"):
        return HTMLResponse(page(url), headers={"Vary": "Accept"})
    return PlainTextResponse(instructions(url), headers={"Vary": "Accept"})


async def post_archive(request: Request) -> Response:
    """Archive the package that a JSON body or a form names."""
    is_form = request.headers.get("content-type") == FORM
    read = _package_of_form if is_form else _package_of
    package = read(await request.body())
    if package is None:
        return _refuse(400, 'Send JSON like {"package": "json"}.')
    return await run_in_threadpool(_archive_package, package)


def get_archive(request: Request) -> Response:
    """Archive the package that the path names; Starlette runs this in a thread."""
    return _archive_package(request.path_params["package"])


@long_running
def get_library(request: Request) -> Response:
    """Archive the whole standard library, which is always slow."""
    return _archive("standard-library", all_source_files())


async def broken(request: Request) -> Response:
    """Fail after the 202 has left."""
    await asyncio.sleep(BROKEN_AFTER)
    raise RuntimeError("this handler fails to show what that looks like")


def _package_of(body: bytes) -> str | None:
    try:
        package = json.loads(body)["package"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return package if isinstance(package, str) else None


def _package_of_form(body: bytes) -> str | None:
    return next(iter(parse_qs(body.decode("latin-1")).get("package", ())), None)


def _archive_package(package: str) -> Response:
    try:
        files = source_files(package)
    except UnknownPackage:
        return _refuse(404, "The standard library here has no source files of that name.")
    return _archive(package, files)


def _refuse(status: int, why: str) -> Response:
    return JSONResponse({"error": why}, status)


def _archive(name: str, files: Sequence[Path]) -> Response:
    archive = build_archive(files)
    size = archive.seek(0, 2)
    archive.seek(0)
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.tar.xz"',
        "Content-Length": str(size),
    }
    return StreamingResponse(_pieces(archive), media_type="application/x-xz", headers=headers)


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE):
            yield piece


def _get(path: str, handler: Callable[[Request], Any]) -> Route:
    route = Route(path, handler, methods=["GET"])
    # A HEAD is never deferred: it would build an archive only to throw it away.
    route.methods = {"GET"}
    return route


app = Starlette(
    routes=[
        Route("/", index),
        Route("/archives", post_archive, methods=["POST"]),
        _get("/archives/{package}", get_archive),
        _get("/library", get_library),
        _get("/broken", broken),
    ],
    middleware=[Middleware(RaincheckMiddleware, budget=BUDGET)],
)
