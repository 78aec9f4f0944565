"""What servers and applications put into every scope, and a captured request has not."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

LIFESPANS_REMEMBERED = 8  # an application may be served by several event loops at a time


class Surroundings:
    """What is around one middleware, as far as scopes have told.

    Args:
        wrapped: What the middleware is immediately around.
        middleware: Its class, as the application names it.
    """

    def __init__(self, wrapped: ASGIApp, middleware: object = None) -> None:
        self._wrapped = wrapped
        self._middleware = middleware
        self._app: Any = None
        self._lifespans: deque[Scope] = deque(maxlen=LIFESPANS_REMEMBERED)
        self._state: dict[str, Any] | None = None

    def know(self, scope: Scope) -> None:
        """Learn from a scope of this process."""
        self._app = scope.get("app", self._app)
        if scope["type"] == "lifespan":
            self.know_lifespan(scope)

    def know_lifespan(self, scope: Scope) -> bool:
        """Learn the state of a lifespan: that of a request holds what belongs to it, too.

        Returns:
            Whether it was not known before.
        """
        is_new = not any(scope is known for known in self._lifespans)
        if is_new:
            self._lifespans.append(scope)
        self._state = scope.get("state")
        return is_new

    def add_to(self, scope: Scope) -> None:
        """Put what is known into a scope."""
        if self._app is not None:
            scope["app"] = self._app
        if self._state is not None:
            scope["state"] = self._state.copy()  # as servers do: what lifespan has made

    def outermost(self) -> ASGIApp:
        """Return the application in whose stack the middleware is, or else what it wraps."""
        stack = getattr(self._app, "user_middleware", ())  # Starlette's and FastAPI's
        inside = any(getattr(one, "cls", None) is self._middleware for one in stack)
        return self._app if inside else self._wrapped
