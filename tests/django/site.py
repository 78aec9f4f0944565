"""A Django project in this process, called in each of the ways in which Django runs middleware."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import Context
from typing import Any, TypeVar

from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import override_settings

from raincheck.wsgi import leaving
from tests.support import asgi, wsgi
from tests.support.django_settings import configure

configure()

from tests.django.views import Gate  # noqa: E402 - needs the settings

OURS = "raincheck.django.RaincheckMiddleware"
SYNC = f"{__name__}.sync_middleware"
VIEWS = "tests.django.views"
PATIENT = 30.0  # seconds after which a test has failed; a machine under load is slow
SOON = 0.05  # seconds; a budget that runs out
LONG = 60.0  # seconds; a budget that doesn't

# The interface, and which of its middlewares are sync only: around ours, within ours.
WAYS = {
    "wsgi": ("wsgi", (), ()),
    "asgi": ("asgi", (), ()),
    "asgi, sync inside": ("asgi", (), (SYNC,)),
    "asgi, sync outside": ("asgi", (SYNC,), ()),
    "asgi, sync around": ("asgi", (SYNC,), (SYNC,)),
}

_T = TypeVar("_T")
Pairs = Sequence[tuple[bytes, bytes]]


def sync_middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Be like most middlewares that others have written."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers["X-Sync"] = "yes"
        return response

    return middleware


class Background:
    """An event loop in a thread of its own, as a server has one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.run(self._end_all())
        self.run(self._loop.shutdown_asyncgens())
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        if tasks:  # what has answered may have a response to close yet
            await asyncio.wait(tasks, timeout=PATIENT)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def call(self, function: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(function)

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENT * 2)


class Site:
    """A project that is served.

    Args:
        loop: Where an ASGI project runs; None for WSGI.
    """

    def __init__(self, loop: Background | None) -> None:
        self.loop = loop
        self.handler: Any = WSGIHandler() if loop is None else ASGIHandler()
        self._context = Context()  # of the server's thread: tests share theirs

    def call(
        self,
        path: str = "/",
        method: str = "GET",
        headers: Pairs = (),
        body: bytes = b"",
        **more: Any,
    ) -> Any:
        """Send one request and return what came back."""
        answer = self._context.run(self._call, path, method, headers, body, **more)
        assert answer.error is None, answer.error
        return answer

    def _call(self, path: str, method: str, headers: Pairs, body: bytes, **more: Any) -> Any:
        if self.loop is None:
            return wsgi.call(self.handler, path, method, headers, body, **more)
        if body:
            headers = [*headers, (b"content-length", b"%d" % len(body))]
        chunks = [body[n : n + 65536] for n in range(0, len(body), 65536)]
        return self.loop.run(asgi.call(self.handler, path, method, headers, chunks, **more))

    def own(self, path: str, **more: Any) -> Any:
        """Send a request from, and for WSGI in, a thread of one's own."""
        answer = Context().run(self._call, path, "GET", (), b"", **more)
        assert answer.error is None, answer.error
        return answer

    def accepted(self, *arguments: Any, **more: Any) -> Any:
        """Send a request that is to be answered 202."""
        answer = self.call(*arguments, **more)
        assert answer.status == 202, (answer.status, answer.content[:2000])
        return answer

    def follow(self, accepted: Any, headers: Pairs = ()) -> Any:
        """Poll R until it is no 202 any more."""
        path, deadline = path_of(accepted), time.monotonic() + PATIENT
        while (answer := self.call(path, headers=headers)).status == 202:
            assert time.monotonic() < deadline, "still running"
            time.sleep(0.003)
        return answer

    def deferred(self, *arguments: Any, headers: Pairs = (), **more: Any) -> Any:
        """Get the response of a request that is answered 202."""
        return self.follow(self.accepted(*arguments, headers=headers, **more), headers)


def field(answer: Any, name: str) -> str | None:
    """Return the first header field of that name."""
    wanted = name.lower().encode()
    found = (value for key, value in answer.headers if key.lower() == wanted)
    return next(found, b"").decode() or None


def path_of(accepted: Any) -> str:
    """Return the path of a 202's R."""
    location = field(accepted, "location")
    assert location is not None
    return "/" + location.split("://")[-1].partition("/")[2]


@contextmanager
def serving(
    way: str = "wsgi",
    *,
    around: Sequence[str] = (),
    within: Sequence[str] = (),
    bare: bool = False,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> Iterator[Site]:
    """Serve the project of `views`, with these middlewares and options of raincheck's.

    Args:
        way: One of `WAYS`.
        bare: Whether to leave raincheck out.
    """
    interface, outer, inner = WAYS[way]
    ours = () if bare else (OURS,)
    chosen: dict[str, Any] = {
        "ROOT_URLCONF": VIEWS,
        "MIDDLEWARE": [*outer, *around, *ours, *within, *inner],
        "RAINCHECK": {"STORE": "memory:", "BUDGET": SOON, "APPLICATION": "tests"} | options,
        **(settings or {}),
    }
    before = leaving.running()
    with ExitStack() as stack:
        stack.enter_context(override_settings(**chosen))
        loop = None if interface == "wsgi" else stack.enter_context(Background())
        # No handler of this test is to do, say or leave anything in the next one.
        stack.callback(lambda: until(lambda: leaving.running() <= before))
        stack.callback(Gate.opened.set)
        yield Site(loop)


def until(condition: Callable[[], object]) -> None:
    """Wait for what no event tells."""
    deadline = time.monotonic() + PATIENT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.003)
