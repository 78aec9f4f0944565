"""Which processes are the same application: they show each other's operations, and run them again.

Two that share a store and are taken for one would run each other's requests. So an application is
told by what was started and where, by what the middleware is around, and by where that is mounted;
or by the option `application`, and where it is mounted. Whether it may run an operation again has
to be known for sure: on a store that other machines may share, that takes the option, or the same
source code.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from raincheck.config.application import started, started_modules
from raincheck.engine.twins import Called, is_program
from raincheck.inspection import Directory, find_application, find_directory
from raincheck.inspection.django import DjangoDirectory
from raincheck.inspection.layers import is_of, layers

logger = logging.getLogger("raincheck")

UNNAMED = (
    "other services may use this store, and `application` is not set: so operations are run again "
    "only by the same source code in the same directory, and after a deploy to another directory "
    "nobody can poll those from before; give `application` a name of this service's own"
)
ROOTS_REMEMBERED = 100  # some servers take the root path from a header field
_KNOWN: weakref.WeakSet[Application] = weakref.WeakSet()  # of this process
_LOCK = threading.Lock()


class Application:
    """What one middleware is around, and what that is called.

    Args:
        told: The option `application`.
        kind: Of middleware.
        prefix: The option of that name.
        wrapped: Returns what the middleware is around; called late, when all is imported.
        place: Where its operations are; only those in the same place meet.

    Attributes:
        roots: Root paths that requests have come in at.
        is_told: Whether it has been given its name.
        is_around: Whether it is around anything: a program that finishes operations is not.
    """

    def __init__(
        self,
        told: str | None = None,
        kind: str = "",
        prefix: str = "",
        wrapped: Callable[[], object] | None = None,
        place: object = None,
    ) -> None:
        self.is_told = told is not None or wrapped is None
        self.is_around = wrapped is not None
        self._twins = set[str]()
        self.roots = set[str]() if wrapped else {""}
        self._told = told
        # Now: an application may change its directory, and one worker of it later than another.
        self._kind, self._prefix, self._directory = kind, prefix, _directory()
        self._started = started(sys.argv)
        self._place = place
        self._wrapped = wrapped or (lambda: None)
        if self.is_around:  # what is around nothing is no other application's twin
            with _LOCK:
                _KNOWN.add(self)

    @cached_property
    def name(self) -> str:
        """Its name, wherever it is mounted."""
        if self._told is not None:
            return self._told
        start = f"{self._kind} {self._started} {self._prefix} in {self._directory}"
        return f"{start}: {self._home or _kind_of(self._nearest)}"

    @property
    def names(self) -> list[str]:
        """Its name, and those of other processes that it was found to have, too."""
        return [self.name, *sorted(self._twins)]

    def adopt(self, name: str) -> None:
        """Take note that other processes of this application have another name; run theirs, too.

        Args:
            name: One that `may_be_called`.
        """
        self._twins.add(name)

    def may_be_called(self, name: str, code: str | None) -> bool:
        """Tell whether a name is of this application, started by another server.

        Args:
            code: The fingerprint of the source of what is called so.
        """
        if self._called is None or not self._called.may_be(name):
            return False
        # A program's name says neither which package nor which directory it is in.
        return not is_program(name) or self.is_sure_of(code)

    @cached_property
    def _called(self) -> Called | None:
        if self.is_told:
            return None
        kind = _kind_of(self._nearest)
        found = (self._home, self._global, kind if self._is_named else None)
        homes = frozenset(home for home in found if home is not None)
        start = (self._kind, self._started, self._prefix, self._directory)
        return Called(*start, homes, otherwise=kind)

    def warn_if_unnamed(self) -> None:
        """Say what follows from having no told name, where others may use the same store."""
        if not self.is_told:
            logger.warning(UNNAMED)

    def come_in_at(self, root_path: str) -> None:
        """Take note of where it is mounted: what waits for it there may be run."""
        if len(self.roots) >= ROOTS_REMEMBERED:
            self.roots.clear()
        self.roots.add(root_path.rstrip("/"))

    def come_in_with(self, name: str | None) -> None:
        """Take note of where it is mounted elsewhere, as an operation's name of it tells."""
        if name is not None and "\n" in name and self.is_of(name):
            self.come_in_at(name.rpartition("\n")[2])

    def at(self, root_path: str) -> str:
        """Return its name where it is mounted."""
        return f"{self.name}\n{root_path.rstrip('/')}"

    def is_of(self, name: str | None) -> bool:
        """Tell whether a name is this application's, wherever it is mounted."""
        if name is None:
            return False
        return (name.rpartition("\n")[0] if "\n" in name else name) in self.names

    def may_show(self, name: str | None, root_path: str) -> bool:
        """Tell whether an operation of that name is to be shown to who comes in at a root path.

        Those of an older raincheck, which knew no root paths, are.
        """
        return name is None or "\n" not in name or name == self.at(root_path)

    def may_run(self, name: str | None) -> bool:
        """Tell whether an operation of that name may be run again here, as far as names tell."""
        # Before anything has come in: what has a name of its own is nobody else at its root.
        roots = list(self.roots) or ([""] if self._is_named else [])
        names = {f"{each}\n{root.rstrip('/')}": root for each in self.names for root in roots}
        return name in names and not self._is_mistakable_at(names[name])

    def is_sure_of(self, code: str | None) -> bool:
        """Tell whether what has recorded an operation is this very application.

        Args:
            code: The fingerprint of its source.
        """
        return self.is_told or (code is not None and code == self.code)

    @cached_property
    def code(self) -> str | None:
        """The fingerprint of the source that it is made in; None if that can't be found."""
        files = {getattr(module, "__file__", None) for module in self._modules()} - {None}
        hashed = sha256()
        for file in sorted(map(str, files)):
            with suppress(OSError):
                hashed.update(Path(file).read_bytes())
        return hashed.hexdigest() if files else None

    def _modules(self) -> Iterator[ModuleType]:
        """Yield where the application and its handlers are made."""
        home = self._home.partition(":")[0] if self._home else None
        own = self._nearest if isinstance(self._nearest, FunctionType) else None
        names = [home, getattr(own, "__module__", None), *started_modules(sys.argv)]
        for handler in self._handlers.values():
            names.append(getattr(handler, "__module__", None))
        for name in names:
            if name is not None and name in sys.modules:
                yield sys.modules[name]

    @cached_property
    def _handlers(self) -> dict[str, object]:
        """The handlers of the application by their patterns, if its framework is known."""
        if isinstance(self._nearest, ModuleType):
            directory: Directory | None = DjangoDirectory()
        else:
            directory = find_directory(self._nearest)
        return {one.where: one.handler for one in directory.all()} if directory is not None else {}

    @cached_property
    def _nearest(self) -> object:
        """What the middleware is around; of a method, its object."""
        wrapped: Any = self._wrapped()
        while is_of(wrapped, "raincheck", "RaincheckMiddleware"):
            wrapped = wrapped.app
        return getattr(wrapped, "__self__", wrapped)

    @cached_property
    def _is_named(self) -> bool:
        return self._home is not None or isinstance(self._nearest, FunctionType)

    @cached_property
    def _home(self) -> str | None:
        """Where the application, or a layer of it, is the global of a module."""
        if self._nearest is None or isinstance(self._nearest, ModuleType):
            return getattr(self._nearest, "__name__", None)
        # What is put around an application changes from deploy to deploy; the application does not.
        application = find_application(self._nearest)
        made = _own(application).get("import_name")  # Flask's
        if isinstance(made, str) and made != "__main__":
            return f"{made}:{_own(application).get('name', '')}"
        return self._global

    @cached_property
    def _global(self) -> str | None:
        if self._nearest is None or isinstance(self._nearest, ModuleType):
            return None
        application = find_application(self._nearest)
        # Functions and classes have names of their own, and within may be anybody's.
        objects = [o for o in layers(self._nearest) if not isinstance(o, (FunctionType, type))]
        ranked = [(id(o), n) for n, o in enumerate((application, *objects)) if o is not None]
        ranks = dict(reversed(ranked))  # the first rank of each
        return min(_globals(ranks), default=(0, None))[1]

    def _is_mistakable_at(self, root: str) -> bool:
        """Tell whether another application of this process has the same name there."""
        if not self.is_around:
            return False
        others = [one for one in list(_KNOWN) if one._place == self._place and root in one.roots]
        return any(one.name == self.name and one._kin != self._kin for one in others)

    @cached_property
    def _kin(self) -> object:
        """What applications that are made alike have in common."""
        if self._handlers:
            return frozenset((where, _kind_of(one)) for where, one in self._handlers.items())
        return getattr(self._nearest, "__code__", type(self._nearest))


def place_of(option: object, store: object) -> object:
    """Say where a store keeps operations: in memory, each has its own."""
    is_named = option is None or (isinstance(option, str) and not option.startswith("memory:"))
    return option if is_named else id(store)


def _globals(wanted: dict[int, int]) -> Iterator[tuple[int, str]]:
    """Yield where objects, or what is right around them, are globals, with the rank of each.

    Args:
        wanted: The rank of each by its id.
    """
    plain = _Plain()
    for module in list(sys.modules.values()):
        for name, value in list(_own(module).items()):
            if plain[type(value)] or name.startswith("__"):
                continue
            own = _own(value)
            for one in (value, own.get("app"), own.get("router")):
                if id(one) in wanted:
                    yield wanted[id(one)], f"{_own(module).get('__name__')}:{name}"


class _Plain(dict[type, bool]):
    """Whether instances of a type are no applications; there are tens of thousands of globals."""

    def __missing__(self, kind: type) -> bool:
        self[kind] = is_plain = kind.__module__ == "builtins"
        return is_plain


def _own(value: object) -> Mapping[str, Any]:
    """Return the attributes of an object without asking it: proxies and lazy modules would act."""
    try:
        own = object.__getattribute__(value, "__dict__")
    except Exception:
        return {}
    return own if isinstance(own, dict) else {}


def _directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it has been deleted
        return ""


def _kind_of(thing: object) -> str:
    """Name a function, or the class of an object."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"
