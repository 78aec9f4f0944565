"""The thread in which an async chain runs the sync code of a handler that may be deferred.

asgiref gives each request one thread for that. The middleware around needs it, and Django waits for
it when the 202 has been sent; so the handler has another one. The database connections go with it,
and come back with a response in time (`loan`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import partial
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext

from raincheck.django.contexts import arrive
from raincheck.django.loan import Loan, thread_around


class HandlerThread:
    """The sync side of one handler; there is no thread before there is sync code.

    Args:
        loan: The connections that it is to have.
    """

    def __init__(self, loan: Loan) -> None:
        self._context = ThreadSensitiveContext()
        self._loan = loan
        self._is_kept = False
        self._executor = _Executor(loan)
        SyncToAsync.context_to_thread_executor[self._context] = self._executor

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
        executor = self._executor
        if not (executor.has_begun or response.is_async):
            return
        self._is_kept = True
        closers = list(response._resource_closers)
        if response.is_async:
            response.streaming_content = self._pieces(response.streaming_content)
        else:
            response.streaming_content = _Remote(executor, self._loan, response.streaming_content)
        response._resource_closers[:] = [partial(self._close_with, closers)]

    async def _pieces(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        while True:
            self._loan.around = thread_around()  # whoever iterates may have another one
            try:
                with self.entered():  # only meanwhile: whoever iterates has a thread of his own
                    chunk = await anext(content)
            except StopAsyncIteration:
                return
            finally:
                await self.give_back()
            yield chunk

    def _close_with(self, closers: list[Callable[[], None]]) -> None:
        """Have a response closed in the thread where it was made, which ends then."""

        def close() -> None:
            for closer in closers:
                with suppress(Exception):  # as Django does
                    closer()

        if self._executor.has_begun:
            with self._loan.turn():
                self._executor.step(close).result()
            self._executor.end()
        else:
            close()
        self._executor.shutdown(wait=False)

    async def give_back(self) -> None:
        """Give the connections back to the request's thread, if this one has them."""
        if self._loan.is_taken:
            await _whole(self._executor.give_back())

    async def end(self) -> None:
        """End the thread, unless it is kept; close the connections that were not given back."""
        await self.give_back()
        if self._is_kept:
            return
        self._loan.is_over = True
        SyncToAsync.context_to_thread_executor.pop(self._context, None)
        if self._executor.has_begun or self._loan.is_kept:
            ended = self._executor.end()
            self._executor.shutdown(wait=False)
            await _whole(ended)


async def _whole(done: Future[None]) -> None:
    """Wait for something, whoever cancels this; who has learns of it afterwards."""
    waiting, cancelled = asyncio.wrap_future(done), None
    while not waiting.done():
        try:
            await asyncio.wait([waiting])
        except asyncio.CancelledError as error:
            cancelled = error
    waiting.result()
    if cancelled is not None:
        try:
            raise cancelled
        finally:
            del cancelled  # its traceback refers to this frame


class _Executor(Executor):
    """One thread, which is there when it is needed, and has the connections then."""

    def __init__(self, loan: Loan) -> None:
        self._loan = loan
        self._thread: ThreadPoolExecutor | None = None

    @property
    def has_begun(self) -> bool:
        """Whether there is any sync code."""
        return self._thread is not None

    def _submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "raincheck-django")
        return self._thread.submit(work, *args, **kwargs)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run something with the connections, which stay until they are given back."""
        return self._submit(self._loan.run, fn, *args, **kwargs)

    def step(self, work: Callable[[], Any]) -> Future[Any]:
        """Run something with the connections while the thread that lends them waits for it."""
        return self._submit(self._loan.step, work)

    def give_back(self) -> Future[None]:
        """Give the connections back."""
        return self._submit(self._loan.give_back)

    def end(self) -> Future[None]:
        """Close the connections that were not given back."""
        return self._submit(self._loan.end)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the thread when all is done."""
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.shutdown(wait, cancel_futures=cancel_futures)


class _Remote:
    """An iterator that goes on in the thread where it was made."""

    def __init__(self, executor: _Executor, loan: Loan, content: Iterator[bytes]) -> None:
        self._executor = executor
        self._loan = loan
        self._content = content
        self._context = copy_context()
        self._origin = threading.get_ident()

    def __iter__(self) -> _Remote:
        return self

    def __next__(self) -> bytes:
        going_on = partial(self._context.run, self._next)
        with self._loan.turn():
            made: bytes | None = self._executor.step(going_on).result()
        if made is None:
            raise StopIteration
        return made

    def _next(self) -> bytes | None:
        arrive(self._origin)
        return next(self._content, None)
