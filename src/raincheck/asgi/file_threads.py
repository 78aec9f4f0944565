"""Threads that read and write the files of request bodies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

_FILES_AT_ONCE = 8
# Not anyio's own: handlers in threads may hold all of those and wait for what is read here.
_THREADS: RunVar[anyio.CapacityLimiter] = RunVar("raincheck-uploads")

_T = TypeVar("_T")


async def in_file_thread(work: Callable[..., _T], *arguments: Any) -> _T:
    """Do what may block on a file."""
    try:
        limiter = _THREADS.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_FILES_AT_ONCE)
        _THREADS.set(limiter)
    return await anyio.to_thread.run_sync(work, *arguments, limiter=limiter)
