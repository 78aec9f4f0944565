"""A request as it came: what is inside of the middleware may change its scope, and much does."""

from __future__ import annotations

from collections.abc import Iterator
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

    def describe(self) -> Request:
        """Return the request as it came, without its body."""
        return to_request(self.arrived, self.path, self._root_path)

    def trusted_user(self) -> str | None:
        """Name nobody: no ASGI server says whom it knows."""
        return None

    @property
    def is_authenticated(self) -> bool:
        """Whether it is known by now whose it is: here, what knows it is inside."""
        return False

    def askable(self) -> Iterator[Scope]:
        """Yield the scope as it came, with what was added inside; then as it is now.

        What is inside may have put a user in the place of none.
        """
        yield {**self.scope, **self.arrived}
        yield {**self.arrived, **self.scope}
