"""Threads for what may block on the store or on the application, so that neither starves the other.

A few of each kind: polls that wait for somebody's identity server must not keep responses waiting.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread

_AT_ONCE = 16  # of each kind

_T = TypeVar("_T")


class Threads:
    """The threads of one event loop."""

    def __init__(self) -> None:
        kinds = (anyio.CapacityLimiter(_AT_ONCE) for _ in range(5))
        self._polls, self._reads, self._asks, self._promotions, self._writers = kinds
        self._thread = threading.get_ident()

    async def poll(self, function: Callable[..., _T], *args: Any) -> _T:
        return await anyio.to_thread.run_sync(function, *args, limiter=self._polls)

    async def read(self, function: Callable[..., _T], *args: Any) -> _T:
        return await anyio.to_thread.run_sync(function, *args, limiter=self._reads)

    async def ask(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._shielded(self._asks, function, *args)

    async def promote(self, function: Callable[..., _T], *args: Any) -> _T:
        return await anyio.to_thread.run_sync(function, *args, limiter=self._promotions)

    async def record(self, function: Callable[..., _T], *args: Any) -> _T:
        return await self._shielded(self._writers, function, *args)

    async def _shielded(
        self, limiter: anyio.CapacityLimiter, function: Callable[..., _T], *args: Any
    ) -> _T:
        result: Any = None
        with anyio.CancelScope(shield=True):
            result = await anyio.to_thread.run_sync(function, *args, limiter=limiter)
        return cast(_T, result)
