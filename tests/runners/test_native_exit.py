"""Which exception a handler leaves by, and by what it is recognised."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import fastapi
import pytest
from anyio import create_task_group
from anyio.abc import TaskGroup
from django.utils.functional import SimpleLazyObject
from litestar import Litestar
from litestar import Request as LitestarRequest
from litestar.exceptions import HTTPException as LitestarHTTPException
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request

from raincheck.runners.leaving import HandedOver, django_response, is_exit, native_exit
from tests.runners import asgi_apps
from tests.runners.handing import BODY, Steps, ask_asgi, handed_over

SEEN = "middleware: 202"
pytestmark = pytest.mark.framework


def scope_of(app: object, **more: Any) -> dict[str, Any]:
    return {"type": "http", "headers": [], "app": app, **more}


def test_an_exit_is_recognised_in_groups_and_as_a_cause() -> None:
    error = HandedOver()
    caused = ValueError("the application's own")
    caused.__cause__ = ExceptionGroup("several", [KeyError("first"), error])
    group = BaseExceptionGroup("more", [SystemExit(1), ExceptionGroup("inner", [caused])])
    assert is_exit(error)
    assert is_exit(caused)
    assert is_exit(group)


def test_nothing_else_is_taken_for_an_exit() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    others: list[BaseException] = [first, HTTPException(202), ExceptionGroup("one", [first])]
    assert [is_exit(other) for other in others] == [False] * 3
    assert django_response(first) is None


@pytest.mark.parametrize("source", [None, {}, {"app": object()}, {"bottle.app": object()}])
def test_in_an_unknown_framework_the_text_says_what_has_happened(source: Any) -> None:
    error = native_exit(("a", 1), {"more": None}, source)
    assert type(error) is HandedOver
    assert "handed over to a worker" in str(error)
    assert "Nothing has failed" in str(error)


def test_the_exit_is_what_code_of_the_framework_passes_on() -> None:
    of_fastapi = native_exit((), {}, scope_of(fastapi.FastAPI()))
    of_starlette = native_exit((Request(scope_of(Starlette())),), {}, None)
    assert isinstance(of_fastapi, fastapi.HTTPException)
    assert isinstance(of_starlette, HTTPException)
    assert not isinstance(of_starlette, fastapi.HTTPException)
    assert is_exit(of_fastapi)
    assert is_exit(of_starlette)


def test_the_request_tells_more_than_the_application_that_another_one_is_mounted_in() -> None:
    inner = Request(scope_of(fastapi.FastAPI()))
    error = native_exit((), {"request": inner}, scope_of(Starlette()))
    assert isinstance(error, fastapi.HTTPException)


def test_the_request_alone_tells_of_litestar() -> None:
    app = Litestar()
    request = LitestarRequest[Any, Any, Any](scope_of(app, litestar_app=app, state={}))  # type: ignore[arg-type]
    error = native_exit((), {"request": request}, scope_of(Starlette()))
    assert isinstance(error, LitestarHTTPException)
    assert is_exit(error)


def test_an_application_built_upon_starlette_is_left_as_starlette() -> None:
    handlers: dict[Any, Any] = {}
    scope = scope_of(object(), **{"starlette.exception_handlers": (handlers, {})})
    error = native_exit((), {}, scope)
    assert isinstance(error, HTTPException)
    assert list(handlers) == [type(error)]


def test_arguments_are_not_made_to_run() -> None:
    def run() -> object:
        raise AssertionError("a lazy argument was asked what it is")

    error = native_exit((SimpleLazyObject(run),), {"user": SimpleLazyObject(run)}, None)
    assert type(error) is HandedOver


def test_no_framework_is_imported() -> None:
    code = (
        "import sys; from raincheck.runners.leaving import native_exit;"
        "before = set(sys.modules); native_exit((1,), {}, {'app': 2});"
        "print(*{name.split('.')[0] for name in sys.modules}, set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    frameworks = {"starlette", "fastapi", "litestar", "flask", "quart", "django", "falcon"}
    assert not set(done.stdout.split()) & (frameworks | {"bottle", "pyramid", "werkzeug", "ninja"})
    assert done.stdout.endswith("set()\n")


@pytest.mark.parametrize("is_loud", [False, True])
@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("build", [asgi_apps.starlette, asgi_apps.fastapi])
@pytest.mark.parametrize("path", ["/sync", "/async", "/mounted/async"])
def test_starlette_is_left_quietly_through_any_middleware(
    build: Any, layers: int, is_loud: bool, path: str, logged: list[str]
) -> None:
    steps: Steps = []
    response = ask_asgi(build(steps, layers, is_loud), path)
    assert (response.status_code, response.content) == (202, b"")
    assert [step for step in steps if step.startswith("middleware")] == [SEEN] * (layers + 1)
    assert BODY not in steps
    assert logged == []


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("is_loud", [False, True])
def test_litestar_is_left_quietly_with_debug_and_without(
    debug: bool, is_loud: bool, logged: list[str]
) -> None:
    steps: Steps = []
    assert ask_asgi(asgi_apps.litestar(steps, is_loud, debug), "/async").status_code == 202
    assert steps == ["rollback: True", SEEN]
    assert logged == []


def test_an_application_whose_scope_was_copied_on_the_way_is_left_quietly(
    logged: list[str],
) -> None:
    app = fastapi.FastAPI()

    @app.get("/")
    @handed_over
    async def handle() -> str:
        return BODY

    async def copying(scope: Any, receive: Any, send: Any) -> None:
        await app(dict(scope), receive, send)

    assert ask_asgi(copying, "/").status_code == 202
    assert logged == []


def test_in_an_unknown_asgi_framework_the_text_says_what_has_happened() -> None:
    error = native_exit((), {}, {"type": "http"})
    assert "Nothing has failed" in str(error)
    assert is_exit(error)


def test_a_task_group_around_a_handler_makes_a_group_of_the_exit_and_it_is_recognised() -> None:
    """The other known limit: Starlette answers no group as what is in it."""
    app = fastapi.FastAPI()

    async def tasks() -> AsyncIterator[TaskGroup]:
        async with create_task_group() as group:
            yield group

    @app.get("/", dependencies=[fastapi.Depends(tasks)])
    @handed_over
    async def handle() -> str:
        return BODY

    with pytest.raises(ExceptionGroup) as caught:
        ask_asgi(app, "/")
    assert is_exit(caught.value)


def test_code_that_catches_all_around_a_handler_sees_the_exit_and_answers_itself() -> None:
    """The known limit: the body does not run there either, but what is caught may be logged."""
    app, caught = fastapi.FastAPI(), []

    @handed_over
    async def handle() -> str:
        return BODY

    @app.get("/")
    async def catching() -> str:
        try:
            return str(await handle())
        except Exception as error:
            caught.append(error)
            return "an error"

    assert ask_asgi(app, "/").json() == "an error"
    assert [is_exit(error) for error in caught] == [True]
