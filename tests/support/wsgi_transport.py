"""Lets httpx talk to a WSGI application in this process."""

from __future__ import annotations

import asyncio
import itertools
import threading
from wsgiref.types import WSGIApplication

import httpx

from tests.support.wsgi import Call, environ_of

SERVER = "test-server"  # how the names of its threads begin


class WSGITransport(httpx.AsyncBaseTransport):
    """Calls the application as a server does that has a thread for each request.

    An exception of the application is raised. A response is there when the server has all of it.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._number = itertools.count(1)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        call = Call(self._app, _environ(request, await request.aread()), empties=True)
        await self._in_a_thread(call)
        if call.error is not None:
            raise call.error
        stream = httpx.ByteStream(call.content)  # else httpx would add header fields
        return httpx.Response(call.status, headers=call.headers, stream=stream)

    async def _in_a_thread(self, call: Call) -> None:
        loop, is_over = asyncio.get_running_loop(), asyncio.Event()

        def serve() -> None:
            call.run()
            loop.call_soon_threadsafe(is_over.set)

        name = f"{SERVER}-{next(self._number)}"
        threading.Thread(target=serve, name=name, daemon=True).start()
        await is_over.wait()


def _environ(request: httpx.Request, body: bytes) -> dict[str, object]:
    headers = [(name.lower(), value) for name, value in request.headers.raw]
    query = request.url.query.decode("ascii")
    return environ_of(request.url.path, request.method, headers, body, QUERY_STRING=query)
