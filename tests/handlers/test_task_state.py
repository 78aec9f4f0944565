"""What the start-up check says of middleware outside raincheck that keeps state for a task."""

from __future__ import annotations

import asyncio
import types
from asyncio import current_task
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware

from raincheck.asgi import RaincheckMiddleware
from raincheck.inspection.check import check

SESSIONS = WeakKeyDictionary[Any, Any]()


class Scoped:
    """SQLAlchemy's class, by its names."""

    def __init__(self, scopefunc: Callable[[], object]) -> None:
        self.registry = types.SimpleNamespace(scopefunc=scopefunc)


Scoped.__module__, Scoped.__name__ = "sqlalchemy.ext.asyncio.scoping", "async_scoped_session"
OF_TASK: Any = Scoped(asyncio.current_task)
OF_CONTEXT: Any = Scoped(dict)


class Plain:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


class Closing(Plain):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            await OF_TASK.remove()


class Harmless(Plain):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)
        await OF_CONTEXT.remove()


class Keeping(Plain):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        SESSIONS[current_task()] = scope
        await self.app(scope, receive, send)


class KeepingToo(Plain):
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        SESSIONS[asyncio.current_task()] = scope
        await self.app(scope, receive, send)


async def close(request: Any, call_next: Any) -> Any:
    try:
        return await call_next(request)
    finally:
        await OF_TASK.remove()


def codes(app: object) -> list[str]:
    report = check(app)
    assert report is not None
    return [complaint.code for complaint in report.complaints]


def with_middlewares(*outermost_first: tuple[Any, dict[str, Any]]) -> FastAPI:
    app = FastAPI()
    for cls, options in reversed(outermost_first):
        app.add_middleware(cls, **options)
    return app


RAINCHECK: Any = (RaincheckMiddleware, {})


@pytest.mark.parametrize("cls", [Closing, Keeping, KeepingToo])
def test_state_of_a_task_in_middleware_outside_is_complained_about(cls: Any) -> None:
    assert codes(with_middlewares((Plain, {}), (cls, {}), RAINCHECK)) == ["task-state"]
    assert codes(with_middlewares(RAINCHECK, (cls, {}))) == []
    assert codes(cls(RaincheckMiddleware(FastAPI()))) == ["task-state"]
    assert codes(RaincheckMiddleware(cls(FastAPI()))) == []
    assert codes(with_middlewares((cls, {}))) == []


def test_state_of_a_task_in_a_function_outside_is_complained_about() -> None:
    around = (BaseHTTPMiddleware, {"dispatch": close})
    assert "task-state" in codes(with_middlewares(around, RAINCHECK))
    assert codes(with_middlewares(RAINCHECK, around)) == []


def test_state_of_no_task_in_middleware_outside_is_not() -> None:
    assert codes(with_middlewares((Harmless, {}), (Plain, {}), RAINCHECK)) == []
