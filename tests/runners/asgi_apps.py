"""Applications of ASGI frameworks whose handlers are all marked.

They have error handlers that nobody wants to be called, and hooks that all are to run.
"""

# mypy: disable-error-code="untyped-decorator"

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import falcon.asgi
import quart.views
from fastapi import APIRouter, Depends, FastAPI
from litestar import Controller, Litestar
from litestar import Request as LitestarRequest
from litestar import Response as LitestarResponse
from litestar import get as litestar_get
from litestar.di import Provide
from litestar.exceptions import HTTPException as LitestarHTTPException
from litestar.logging import LoggingConfig
from quart import Quart
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from werkzeug.exceptions import HTTPException as WerkzeugHTTPException

from tests.runners.handing import BODY, Recording, Steps, handed_over, loud, recording

FAILED = "the handler has failed"
SEEN = "middleware: 202"


def starlette(steps: Steps, layers: int = 1, is_loud: bool = True) -> Starlette:
    """Functions, sync and async, a class, and an application that is mounted."""

    @handed_over
    def sync(request: Request) -> Response:
        steps.append(BODY)
        return PlainTextResponse(BODY)

    @handed_over
    async def on_loop(request: Request) -> Response:
        steps.append(BODY)
        return PlainTextResponse(BODY)

    class Endpoint(HTTPEndpoint):
        @handed_over
        async def get(self, request: Request) -> Response:
            steps.append(BODY)
            return PlainTextResponse(BODY)

    async def fails(request: Request) -> Response:
        raise ValueError(FAILED)

    handlers = {HTTPException: loud(steps), 202: loud(steps), Exception: loud(steps)}
    inner = Starlette(routes=[Route("/async", on_loop)], exception_handlers=dict(handlers))
    return Starlette(
        routes=[
            *(Route("/sync", sync), Route("/async", on_loop), Route("/class", Endpoint)),
            *(Mount("/mounted", inner), Route("/fails", fails)),
        ],
        exception_handlers=handlers if is_loud else None,
        middleware=[
            Middleware(Recording, steps=steps),
            *(Middleware(BaseHTTPMiddleware, dispatch=recording(steps)) for _ in range(layers)),
        ],
    )


def fastapi(steps: Steps, layers: int = 1, is_loud: bool = True) -> FastAPI:
    """Functions that take no request, below dependencies that roll back."""

    async def session() -> AsyncIterator[str]:
        try:
            yield "session"
        except Exception as error:
            steps.append(f"rollback: {isinstance(error, HTTPException)}")
            raise
        steps.append("commit")

    def sync_session() -> Iterator[str]:
        try:
            yield "session"
        except Exception as error:
            steps.append(f"rollback: {isinstance(error, HTTPException)}")
            raise
        steps.append("commit")

    app = FastAPI()
    router = APIRouter(prefix="/included")

    @app.get("/sync")
    @handed_over
    def sync(session: str = Depends(sync_session)) -> str:
        steps.append(BODY)
        return BODY

    @app.get("/async")
    @handed_over
    async def on_loop(session: str = Depends(session)) -> str:
        steps.append(BODY)
        return BODY

    class Lister:
        @handed_over
        async def __call__(self, session: str = Depends(session)) -> str:
            steps.append(BODY)
            return BODY

    @app.get("/fails")
    async def fails() -> None:
        raise ValueError(FAILED)

    router.add_api_route("/class", Lister().__call__)
    router.add_api_route("/async", on_loop)
    app.include_router(router)
    inner = FastAPI()
    inner.add_api_route("/async", on_loop)
    app.mount("/mounted", inner)
    for _ in range(layers):
        app.add_middleware(BaseHTTPMiddleware, dispatch=recording(steps))
    app.add_middleware(Recording, steps=steps)
    if is_loud:
        for application in (app, inner):
            for error in (HTTPException, 202, Exception):
                application.add_exception_handler(error, loud(steps))
    return app


def litestar(steps: Steps, is_loud: bool = True, debug: bool = True) -> Litestar:
    """Functions and a controller, below a dependency that rolls back."""

    async def session() -> AsyncIterator[str]:
        try:
            yield "session"
        except Exception as error:
            steps.append(f"rollback: {isinstance(error, LitestarHTTPException)}")
            raise
        steps.append("commit")

    @litestar_get("/sync", sync_to_thread=True)
    @handed_over
    def sync(session: Annotated[str, "a session"]) -> str:
        steps.append(BODY)
        return BODY

    @litestar_get("/async")
    @handed_over
    async def on_loop(session: Annotated[str, "a session"]) -> str:
        steps.append(BODY)
        return BODY

    class Controlling(Controller):
        @litestar_get("/class")
        @handed_over
        async def get(self, session: Annotated[str, "a session"]) -> str:
            steps.append(BODY)
            return BODY

    @litestar_get("/fails")
    async def fails() -> None:
        raise ValueError(FAILED)

    async def after_response(request: Any) -> None:
        steps.append("after_response")

    handlers: Any = dict.fromkeys((LitestarHTTPException, 202, 500), loud(steps))
    return Litestar(
        [sync, on_loop, Controlling, fails],
        debug=debug,
        dependencies={"session": Provide(session)},
        exception_handlers=handlers if is_loud else None,
        middleware=[lambda app: Recording(app, steps)],
        after_response=after_response,
        openapi_config=None,
    )


def litestar_with_request(steps: Steps) -> Litestar:
    """A handler that takes the request, in an application that logs all that is raised."""

    @litestar_get("/async")
    @handed_over
    async def on_loop(request: LitestarRequest[Any, Any, Any]) -> LitestarResponse[str]:
        steps.append(BODY)
        return LitestarResponse(BODY)

    return Litestar([on_loop], logging_config=LoggingConfig(log_exceptions="always"))


def quart_app(steps: Steps, traps: bool = False) -> Quart:
    """Functions, sync and async, and a class."""
    app = Quart("shop")
    app.config["TRAP_HTTP_EXCEPTIONS"] = traps
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @app.get("/sync")
    @handed_over
    def sync() -> str:
        steps.append(BODY)
        return BODY

    @app.get("/async")
    @handed_over
    async def on_loop() -> str:
        steps.append(BODY)
        return BODY

    class View(quart.views.MethodView):
        @handed_over
        async def get(self) -> str:
            steps.append(BODY)
            return BODY

    app.add_url_rule("/class", view_func=View.as_view("class"))

    @app.get("/fails")
    async def fails() -> str:
        raise ValueError(FAILED)

    for error in (WerkzeugHTTPException, Exception):
        app.register_error_handler(error, loud(steps))

    @app.after_request
    async def after(response: Any) -> Any:
        steps.append(f"after_request: {response.status_code}")
        return response

    @app.teardown_request
    async def teardown(error: BaseException | None) -> None:
        steps.append(f"teardown: {error}")

    return app


class FalconHooks:
    """Middleware of Falcon."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps

    async def process_response(self, req: Any, resp: Any, resource: Any, succeeded: bool) -> None:
        self._steps.append(f"process_response: {resp.status_code} {succeeded}")


def falcon_app(steps: Steps) -> Any:
    """A resource whose responder is async; Falcon takes no others here."""

    class Resource:
        @handed_over
        async def on_get(self, req: Any, resp: Any) -> None:
            steps.append(BODY)

    class Fails:
        async def on_get(self, req: Any, resp: Any) -> None:
            raise ValueError(FAILED)

    app = falcon.asgi.App(middleware=[FalconHooks(steps)])
    app.add_route("/async", Resource())
    app.add_route("/fails", Fails())
    handle = loud(steps)

    async def handle_error(*args: Any) -> None:
        handle()

    for error in (falcon.HTTPError, Exception):
        app.add_error_handler(error, handle_error)
    return app


APPLICATIONS: dict[str, Callable[[Steps], Any]] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "litestar": litestar,
    "litestar-logging": litestar_with_request,
    "quart": quart_app,
    "quart-trapping": lambda steps: quart_app(steps, traps=True),
    "falcon-asgi": falcon_app,
}
ROLLED_BACK, TORN_DOWN = "rollback: True", ["after_request: 202", "teardown: None"]
EXPECTED: dict[tuple[str, str], Steps] = {
    **{("starlette", f"/{path}"): [SEEN] * 2 for path in ("sync", "async", "class")},
    ("starlette", "/mounted/async"): [SEEN] * 2,
    **{
        ("fastapi", f"/{path}"): [ROLLED_BACK, *[SEEN] * 2]
        for path in ("sync", "async", "included/class", "included/async", "mounted/async")
    },
    **{("litestar", f"/{path}"): [ROLLED_BACK, SEEN] for path in ("sync", "async", "class")},
    ("litestar-logging", "/async"): [],
    **{("quart", f"/{path}"): TORN_DOWN for path in ("sync", "async", "class")},
    ("quart-trapping", "/async"): TORN_DOWN,
    ("falcon-asgi", "/async"): ["process_response: 202 False"],
}
FAILING = ["starlette", "fastapi", "litestar", "quart", "falcon-asgi"]  # with a path that fails
