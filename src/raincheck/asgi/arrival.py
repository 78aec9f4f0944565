"""A request as it came: what is inside of the middleware may change its scope, and much does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raincheck.asgi.translation import to_request
from raincheck.http.messages import Request
from raincheck.http.urls import route_path

if TYPE_CHECKING:
    from starlette.types import Scope


class Arrival:
    """Describes the request of an exchange; the rest of that is with its subclasses.

    Attributes:
        scope: As it is now.
        arrived: As it came.
    """

    scope: Scope
    arrived: Scope

    @property
    def path(self) -> str:
        """The request's path."""
        path: str = self.arrived["path"]
        return path

    @property
    def route(self) -> str:
        """The request's path, without the root path."""
        return route_path(self.path, self._root_path)

    @property
    def _root_path(self) -> str:
        root_path: str = self.arrived.get("root_path", "")
        return root_path

    def described(self) -> Request:
        """Return the request, without its body."""
        return to_request(self.arrived, self.path, self._root_path)

    def known(self) -> Scope:
        """Return the scope as it came, with what was added to it inside, such as a user."""
        return {**self.scope, **self.arrived}

    def known_inside(self) -> Scope:
        """Return the scope as it is now, with what it came with and has lost."""
        return {**self.arrived, **self.scope}
