"""The thread in which an async chain runs the sync code of a handler that may be deferred.

asgiref gives each request one thread for that. The middleware around needs it, and Django waits for
it when the 202 has been sent; so the handler has another one. The database connections go with it,
and come back with a response in time (`lending`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext
from django.db import connections

from raincheck.django.contexts import arrive
from raincheck.django.lending import Loan

logger = logging.getLogger("raincheck")


def thread_around() -> Executor | None:
    """Return what runs the sync code of the middleware around; None: there has been none yet."""
    current: Executor | None = getattr(AsyncToSync.executors, "current", None)
    context = SyncToAsync.thread_sensitive_context.get(None)
    if current is not None or context is None:
        return current
    return SyncToAsync.context_to_thread_executor.get(context)


class HandlerThread:
    """The sync side of one handler; there is no thread before there is sync code.

    Args:
        loan: The connections that it is to have.
    """

    def __init__(self, loan: Loan) -> None:
        self._context = ThreadSensitiveContext()
        self._loan = loan
        self._has_begun = False
        self._is_kept = False
        executor = ThreadPoolExecutor(1, "raincheck-django", self._begin)
        SyncToAsync.context_to_thread_executor[self._context] = executor

    def _begin(self) -> None:
        self._has_begun = True
        try:
            self._loan.take()
        except Exception:
            logger.exception("a handler has connections of its own")

    @property
    def executor(self) -> Executor | None:
        """The thread, if there is any sync code."""
        return SyncToAsync.context_to_thread_executor[self._context] if self._has_begun else None

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
        response._resource_closers[:] = [partial(self._close_with, executor, closers)]

    def _close_with(self, executor: Executor, closers: list[Callable[[], None]]) -> None:
        """Have a response closed in the thread where it was made, which ends then."""

        def close() -> None:
            for closer in closers:
                with suppress(Exception):  # as Django does
                    closer()
            self._loan.leave()
            connections.close_all()  # of whom nothing was lent

        executor.submit(close)
        executor.shutdown(wait=False)

    async def _pieces(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        while True:
            with self.entered():  # only meanwhile: whoever iterates has a thread of his own
                try:
                    chunk = await anext(content)
                except StopAsyncIteration:
                    return
            yield chunk

    async def end(self, *, is_in_time: bool) -> None:
        """End the thread, unless it is kept.

        Args:
            is_in_time: Whether the request's thread gets the connections back; else they are
                closed.
        """
        is_in_time = is_in_time and self._loan.give_back()
        if self._is_kept:
            return
        executor = SyncToAsync.context_to_thread_executor.pop(self._context)
        try:
            if self._has_begun or self._loan.is_made:
                end = self._loan.leave if is_in_time else self._loan.close
                await asyncio.wrap_future(executor.submit(end))
        finally:
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
