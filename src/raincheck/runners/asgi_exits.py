"""How a request of an ASGI framework ends quietly: Starlette, FastAPI, Litestar."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from raincheck.runners.handed_over import STATUS, TEXT, UNKNOWN_TEXT, HandedOver, exit_like
from raincheck.runners.loaded import is_a, loaded

_WITHOUT_HANDLER = (STATUS, 200, 299)  # the first that the application has no handler for


def of_starlette(scope: Mapping[str, Any]) -> HandedOver:
    """Return an `HTTPException` of Starlette, or FastAPI's where the application is one.

    It has a handler of its own, so that none of the application's is called for it.
    """
    of_fastapi = is_a(scope.get("app"), "fastapi", "FastAPI")
    module = "fastapi.exceptions" if of_fastapi else "starlette.exceptions"
    kind = exit_like(loaded(module, "HTTPException"))
    # What Starlette looks into was bound before the handler was called: these very dictionaries.
    handlers, of_statuses = scope.get("starlette.exception_handlers", ({}, {}))
    handlers.setdefault(kind, _end_in_starlette)
    error: HandedOver = kind(_status_without_handler(of_statuses), TEXT)
    return error


async def _end_in_starlette(request: Any, error: Exception) -> Any:
    return loaded("starlette.responses", "Response")(status_code=STATUS)


def of_unknown() -> HandedOver | None:
    """Return what Starlette and FastAPI answer: a scope that was copied doesn't tell of them.

    Their applications' own handlers of `HTTPException` are called for it.
    """
    for module in ("fastapi.exceptions", "starlette.exceptions"):
        if native := loaded(module, "HTTPException"):
            error: HandedOver = exit_like(native)(STATUS, UNKNOWN_TEXT)
            return error
    return None


def of_litestar(scope: Mapping[str, Any]) -> HandedOver:
    """Return an `HTTPException` of Litestar.

    It has a handler of its own for this request. Hooks for `after_exception` are called all the
    same. With `debug` Litestar logs what is raised; its logging configuration is told not to, which
    older ones can't be.
    """
    kind = exit_like(loaded("litestar.exceptions", "HTTPException"))
    app = scope.get("litestar_app") or scope.get("app")  # the former is newer
    config = getattr(app, "logging_config", None)
    if isinstance(unlogged := getattr(config, "disable_stack_trace", None), set):
        unlogged.add(kind)
    handlers = _handle_in_litestar(scope, kind)
    error: HandedOver = kind(detail=TEXT, status_code=_status_without_handler(handlers))
    return error


def _handle_in_litestar(scope: Mapping[str, Any], kind: type[Exception]) -> Mapping[Any, Any]:
    """Give this request a handler; return those that it had."""
    state_class = loaded("litestar.utils.scope.state", "ScopeState")  # not public
    state = state_class and state_class.from_scope(scope)
    handlers = getattr(state, "exception_handlers", None)
    if not isinstance(handlers, dict):
        return {}
    state.exception_handlers = {**handlers, kind: _end_in_litestar}
    return handlers


def _end_in_litestar(request: Any, error: Exception) -> Any:
    return loaded("litestar.response", "Response")(None, status_code=STATUS)


def _status_without_handler(handlers: Container[Any]) -> int:
    """Return a status for the exception, not the response: handlers of it would be preferred."""
    return next((status for status in _WITHOUT_HANDLER if status not in handlers), STATUS)
