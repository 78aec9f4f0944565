"""One way to ask through each library that can follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import requests

from raincheck.client import (
    Adapter,
    AsyncTransport,
    Options,
    Transport,
    resume,
    resume_async,
    resume_session,
)


@dataclass(frozen=True)
class Got:
    """A response, whatever library it is of."""

    status: int
    content: bytes
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    url: str


@dataclass(frozen=True)
class Request:
    """What is asked for; a token instead is resumed."""

    url: str
    method: str = "GET"
    headers: Mapping[str, str] | None = None
    content: bytes | None = None
    times: int = 1
    token: str | None = None


Library = Callable[[Request, Options], Got]


def _got(response: Any, jar: Any) -> Got:
    status, url = response.status_code, str(response.url)
    return Got(status, response.content, response.headers, dict(jar), url)


def with_httpx(request: Request, options: Options) -> Got:
    """Ask in a thread, with a pool of one connection."""
    limits = httpx.Limits(max_connections=1)
    transport = Transport(httpx.HTTPTransport(limits=limits), options)
    with httpx.Client(transport=transport, headers=request.headers, timeout=10) as client:
        if request.token is not None:
            return _got(resume(request.token, client), client.cookies)
        for _ in range(request.times):
            response = client.request(request.method, request.url, content=request.content)
        return _got(response, client.cookies)


async def _with_async_httpx(request: Request, options: Options) -> Got:
    limits = httpx.Limits(max_connections=1)
    transport = AsyncTransport(httpx.AsyncHTTPTransport(limits=limits), options)
    async with httpx.AsyncClient(
        transport=transport, headers=request.headers, timeout=10
    ) as client:
        if request.token is not None:
            return _got(await resume_async(request.token, client), client.cookies)
        for _ in range(request.times):
            response = await client.request(request.method, request.url, content=request.content)
        return _got(response, client.cookies)


def with_asyncio(request: Request, options: Options) -> Got:
    """Ask in asyncio's event loop."""
    return anyio.run(_with_async_httpx, request, options)


def with_trio(request: Request, options: Options) -> Got:
    """Ask in trio's."""
    return anyio.run(_with_async_httpx, request, options, backend="trio")


def with_requests(request: Request, options: Options) -> Got:
    """Ask in a thread, with a pool of one connection that is waited for."""
    wrapped = requests.adapters.HTTPAdapter(pool_maxsize=1, pool_block=True)
    with requests.Session() as session:
        session.mount("http://", Adapter(wrapped, options))
        session.headers.update(request.headers or {})
        if request.token is not None:
            return _got(resume_session(request.token, session), session.cookies)
        for _ in range(request.times):
            response = session.request(
                request.method, request.url, data=request.content, timeout=10
            )
        return _got(response, session.cookies)


LIBRARIES: dict[str, Library] = {
    "httpx": with_httpx,
    "httpx-asyncio": with_asyncio,
    "httpx-trio": with_trio,
    "requests": with_requests,
}
