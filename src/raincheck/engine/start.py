"""What a gateway says of a request that is to become an operation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from raincheck.config.options import Settings
from raincheck.config.webhook_options import check_webhook_url
from raincheck.errors import ConfigurationError
from raincheck.handler import UNMARKED, Marking
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, Progress

logger = logging.getLogger("raincheck")


def owner_of(settings: Settings, source: Any) -> str | None:
    """Name the principal that a request belongs to; may block.

    Args:
        source: What the option `owner` is given.

    Raises:
        ConfigurationError: The option has returned something else.
    """
    owner = settings.owner(source) if settings.owner is not None else None
    if owner is not None and not isinstance(owner, str):
        raise ConfigurationError(f"owner must return a str or None, not {type(owner).__name__}")
    return owner or None  # an empty name is nobody's, and not the same one for all


def webhook_of(settings: Settings, source: Any) -> str | None:
    """Name the URL that is to be told when a request's operation has ended; may block.

    Args:
        source: What the option `webhook` is given.
    """
    webhook = settings.webhook(source) if callable(settings.webhook) else settings.webhook
    if webhook is None:
        return None
    try:
        check_webhook_url(webhook)
    except ConfigurationError as error:  # the client may have chosen it
        logger.warning("nobody will be told of an end: %s", error)
        return None
    return webhook


@dataclass(frozen=True, slots=True)
class Captured:
    """A request as it came, to be run again.

    Attributes:
        body: All of it, in pieces of any size; read once.
    """

    request: Request
    body: Iterable[bytes] = ()


class Source(Protocol):
    """A request, as far as an operation is made of it."""

    @property
    def is_authenticated(self) -> bool:
        """Whether it is known by now whose it is, or that it is nobody's."""
        ...

    def askable(self) -> Iterator[Any]:
        """Yield what `owner` is given in turn, as long as it names nobody; none: nothing is there.

        The option `webhook` is given the first.
        """
        ...

    def trusted_user(self) -> str | None:
        """Name the user whom the server, and no header field, says it comes from."""
        ...

    def describe(self) -> Request:
        """Return the request as it came, without its body."""
        ...

    def body(self) -> Iterable[bytes] | None:
        """Return its body, without disturbing its handler; None if it can't be had."""
        ...

    def capture_request(self) -> Captured | None:
        """Return what it can be run again from; None if it can't."""
        ...


@dataclass(frozen=True, slots=True)
class Key:
    """What makes several requests one operation.

    Attributes:
        value: The key itself, unique among all owners and routes.
        fingerprint: Of the request: another one under the same key is a mistake.
        is_shared: Whether it is let go when the operation ends (coalescing).
        is_anonymous: Whether it says nothing of who sends it: a stranger may have the same.
    """

    value: str
    fingerprint: str
    is_shared: bool = False
    is_anonymous: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """A request that is to become an operation.

    Attributes:
        route: Its path, without the root path.
        root_path: Where the application is mounted.
        owner: The principal that it belongs to.
        progress: What its handler has said already.
        marking: What its handler says of itself, if it has been called.
        capture: Returns the request, if it can still be had; called only where it is needed.
        key: Where another request may have become the same operation.
        webhook: The URL that is to be told of its end.
        is_reached: Whether its handler is, so that who is known as nobody by now is nobody.
        is_attended: Whether its client waits for the response itself, as long as the budget lasts.
        queue: Where it waits for workers; None: this process runs it.
        not_before: When they may begin, in seconds since the epoch; None: now.
    """

    method: str
    route: str
    root_path: str = ""
    owner: str | None = None
    progress: Progress | None = None
    marking: Marking = UNMARKED
    capture: Callable[[], Captured | None] = lambda: None
    key: Key | None = None
    webhook: str | None = None
    is_reached: bool = False
    is_attended: bool = False
    queue: str | None = None
    not_before: float | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The operation that a request has become.

    Attributes:
        is_new: Whether by this request; else one before it has, under the same key.
    """

    operation: Operation
    is_new: bool = True
