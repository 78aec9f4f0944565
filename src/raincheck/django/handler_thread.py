"""The thread in which an async chain runs the sync code of a handler that may be deferred.

asgiref gives each request one thread for that. The middleware around needs it, and Django waits for
it when the 202 has been sent; so the handler has another one, with its own database connections.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import connections

from raincheck.django.contexts import arrive


class HandlerThread:
    """The sync side of one handler; there is no thread before there is sync code."""

    def __init__(self) -> None:
        self._context = ThreadSensitiveContext()
        self._is_kept = False

    @property
    def executor(self) -> Executor | None:
        """The thread, if there is any sync code."""
        return SyncToAsync.context_to_thread_executor.get(self._context)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Have sync code run there."""
        # Not `async with`: within another context it does nothing.
        token = SyncToAsync.thread_sensitive_context.set(self._context)
        # The thread of a sync middleware around: it leaves with the 202.
        around = getattr(AsyncToSync.executors, "current", None)
        AsyncToSync.executors.current = None
        try:
            yield
        finally:
            AsyncToSync.executors.current = around
            SyncToAsync.thread_sensitive_context.reset(token)

    def keep_for(self, response: Any) -> None:
        """Stay for the content of a response, which may use connections of this thread."""
        executor = self.executor
        if executor is None:
            return
        self._is_kept = True
        closers = list(response._resource_closers)
        if response.is_async:
            response.streaming_content = self._pieces(response.streaming_content)
        else:
            response.streaming_content = _Remote(executor, response.streaming_content)
        response._resource_closers[:] = [partial(_close_in, executor, closers)]

    async def _pieces(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        while True:
            with self.entered():  # only meanwhile: whoever iterates has a thread of his own
                try:
                    chunk = await anext(content)
                except StopAsyncIteration:
                    return
            yield chunk

    async def end(self) -> None:
        """Close the thread's connections and end it, unless it is kept."""
        executor = self.executor
        if executor is None or self._is_kept:
            return
        try:
            with self.entered():
                await _close_connections()
        finally:
            SyncToAsync.context_to_thread_executor.pop(self._context, None)
            executor.shutdown(wait=False)


class _Remote:
    """An iterator that goes on in the thread where it was made."""

    def __init__(self, executor: Executor, content: Iterator[bytes]) -> None:
        self._executor = executor
        self._content = content
        self._context = copy_context()
        self._origin = threading.get_ident()

    def __iter__(self) -> _Remote:
        return self

    def __next__(self) -> bytes:
        return self._executor.submit(self._context.run, self._next).result()

    def _next(self) -> bytes:
        arrive(self._origin)
        return next(self._content)


def _close_in(executor: Executor, closers: list[Callable[[], None]]) -> None:
    """Have a response closed in the thread where it was made, which ends then."""

    def close() -> None:
        for closer in closers:
            with suppress(Exception):  # as Django does
                closer()
        connections.close_all()

    executor.submit(close)
    executor.shutdown(wait=False)


@sync_to_async
def _close_connections() -> None:
    connections.close_all()
