"""Which operations a command is about: the arguments, and what they mean."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from raincheck.config.policy import path_matcher
from raincheck.errors import ConfigurationError
from raincheck.operations.operation import IN_FLIGHT, TERMINAL, Operation, State
from raincheck.operations.store import Filter
from raincheck.stores import OBJECTS

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_AGE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhd])")
_GROUPS = {"in-flight": IN_FLIGHT, "ended": TERMINAL, "canceled": {State.CANCELLED}}
_NAMES = (*State, "in-flight", "ended")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which operations are meant; all conditions must hold, and None is no condition.

    Attributes:
        states: The states looked for.
        routes: Tell of a path whether it is meant; one has to. None given: all are.
        older_than: Seconds since the request was taken, at least.
        newer_than: Seconds since then, at most.
    """

    states: frozenset[State] | None = None
    owner: str | None = None
    queue: str | None = None
    application: str | None = None
    routes: tuple[Callable[[str], bool], ...] = field(default=())
    older_than: float | None = None
    newer_than: float | None = None

    def filter(self, states: frozenset[State] | None) -> Filter:
        """Return what a store can look for itself."""
        return Filter(
            states=states, owner=self.owner, queue=self.queue, application=self.application
        )

    def has(self, operation: Operation, now: float) -> bool:
        """Tell whether an operation that the store has found is meant."""
        age = now - operation.created
        return (
            operation.id != OBJECTS
            and (not self.routes or any(matches(operation.route) for matches in self.routes))
            and (self.older_than is None or age >= self.older_than)
            and (self.newer_than is None or age <= self.newer_than)
        )


def add_choice_to(parser: argparse.ArgumentParser) -> None:
    """Let a command be told which operations it is about."""
    add = parser.add_argument
    names = ", ".join(_NAMES)
    add("--state", action="append", type=_states, help=f"{names}; may be repeated")
    add(
        *("--route",),
        action="append",
        default=[],
        type=_route,
        metavar="PATTERN",
        help="path as in `include`: /exports/*, /reports/**, /users/{id}; may be repeated",
    )
    add("--owner", help="the principal that it belongs to")
    add("--queue", help="the queue that it waits in; '' for none")
    add("--application", metavar="NAME", help="the service of that name (option `application`)")
    what = "begun that long ago, such as 90s, 10m, 2h, 3d"
    add("--older-than", type=age, metavar="AGE", help=what)
    add("--newer-than", type=age, metavar="AGE", help="begun since then")


def choice(options: argparse.Namespace) -> Choice:
    """Return what the arguments mean."""
    return Choice(
        states=frozenset[State]().union(*options.state) if options.state else None,
        owner=options.owner,
        queue=options.queue,
        application=options.application,
        routes=tuple(options.route),
        older_than=options.older_than,
        newer_than=options.newer_than,
    )


def age(text: str) -> float:
    """Read a time span: a number and one of s, m, h, d."""
    found = _AGE.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: write 90s, 10m, 2h or 3d")
    return float(found[1]) * _SECONDS[found[2]]


def _states(text: str) -> frozenset[State]:
    return frozenset[State]().union(*(_named(name) for name in text.split(",")))


def _named(name: str) -> Iterable[State]:
    if name in _GROUPS:
        return _GROUPS[name]
    try:
        return {State(name)}
    except ValueError:
        known = ", ".join(_NAMES)
        raise argparse.ArgumentTypeError(f"{name!r} is no state: one of {known}") from None


def _route(pattern: str) -> Callable[[str], bool]:
    try:
        return path_matcher(pattern)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
