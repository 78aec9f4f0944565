"""What a framework's directory of handlers can be asked, in words that all of them share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Environ = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place where an application has registered a handler.

    Attributes:
        where: The path, as the framework writes patterns.
        handler: What the framework calls.
        methods: The HTTP methods; empty if the framework leaves that to the handler.
    """

    where: str
    handler: object
    methods: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Candidates:
    """Handlers of which one will be called: which one, only the framework knows."""

    handlers: tuple[object, ...]


class Opaque:
    """A part of an application that can't be looked into: any handler may be behind it."""


OPAQUE = Opaque()


class Directory(Protocol):
    """The handlers of one application, of whatever framework. None of them is ever called."""

    def all(self) -> Iterator[Endpoint]:
        """Yield everything that is registered."""
        ...

    def middlewares(self) -> Iterable[object]:
        """Return what the application puts around its handlers: classes, objects, dotted names."""
        ...


class Lookup(Directory, Protocol):
    """A directory in which the handler of a WSGI request can be looked up."""

    def find(self, environ: Environ) -> object | None:
        """Return the handler that this request will be given to; None if there is none.

        It may raise whatever the framework raises for a request that has no handler, and leaves
        the environ as it is.
        """
        ...

    def key(self, environ: Environ) -> str | None:
        """Return all that `find` looks at; None if looking is as fast as remembering."""
        ...


def method_of(environ: Environ) -> str:
    return str(environ["REQUEST_METHOD"])


def path_of(environ: Environ) -> str:
    """Return the path below the application as WSGI has it: bytes, in the guise of Latin-1."""
    return str(environ.get("PATH_INFO", ""))


def decoded(path: str, errors: str = "replace") -> str:
    """Return the text that such a path stands for."""
    return path if path.isascii() else path.encode("latin-1").decode("utf-8", errors)
