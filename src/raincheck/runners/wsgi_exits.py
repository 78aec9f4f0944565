"""How a request ends quietly in Flask, Quart, Werkzeug, Falcon, Bottle and Pyramid."""

from __future__ import annotations

from typing import Any

from raincheck.runners.handed_over import STATUS, TEXT, HandedOver, exit_like
from raincheck.runners.loaded import is_a, loaded


def of_flask(module: str, args: tuple[Any, ...]) -> HandedOver:
    """Return an `HTTPException` with a response, as `abort` makes it: no error handler sees it.

    Args:
        module: `flask` or `quart`.
        args: Of the handler's call: Flask-RESTX has error handlers of its own.
    """
    app = loaded(module, "current_app")
    error = of_werkzeug(app.response_class(status=STATUS))
    if app.config.get("TRAP_HTTP_EXCEPTIONS"):
        _handle_trapped(app, loaded(module, "request").blueprints, type(error))
    if args and is_a(args[0], "flask_restx", "Resource"):
        _handle_in_restx(args[0].api, type(error))
    return error


def of_werkzeug(response: Any) -> HandedOver:
    """Return an `HTTPException` that has its response already."""
    error: HandedOver = exit_like(loaded("werkzeug.exceptions", "HTTPException"))(TEXT, response)
    return error


def _handle_trapped(app: Any, blueprints: list[str], kind: type[Exception]) -> None:
    # `register_error_handler` refuses to be called once requests are handled.
    for name in (None, *blueprints):
        app.error_handler_spec[name][None].setdefault(kind, _response_of)


def _response_of(error: Any) -> Any:
    return error.response


def _handle_in_restx(api: Any, kind: type[Exception]) -> None:
    """Give Flask-RESTX a handler: without one it tells Sentry; of several it takes the first."""
    if kind not in api.error_handlers:
        api.error_handlers[kind] = _end_in_restx
        api.error_handlers.move_to_end(kind, last=False)


def _end_in_restx(error: Exception) -> tuple[dict[str, str], int, dict[str, str]]:
    return {}, STATUS, {}


def of_falcon() -> HandedOver:
    """Return an `HTTPStatus`; `process_response` is told that the request did not succeed.

    An application's own handler of `HTTPStatus` is called for it.
    """
    error: HandedOver = exit_like(loaded("falcon", "HTTPStatus"))(loaded("falcon", "HTTP_202"))
    return error


def of_bottle() -> HandedOver:
    """Return an `HTTPResponse`, which plugins see raised."""
    error: HandedOver = exit_like(loaded("bottle", "HTTPResponse"))(status=STATUS)
    return error


def of_pyramid() -> HandedOver:
    """Return an `HTTPAccepted`; an application's own view for `HTTPException` is called for it."""
    error: HandedOver = exit_like(loaded("pyramid.httpexceptions", "HTTPAccepted"))(TEXT)
    return error
