"""What each process has of its own, although forks inherit their parent's objects."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class PerProcess(Generic[_T]):
    """Something that is made in each process that uses it, and again after a fork.

    What the parent has made is kept in its children: to collect it there would close what is the
    parent's. There is no lock, which a fork could inherit locked: where two threads make it at the
    same moment, one of the two is thrown away, unused.

    Args:
        make: Makes it; opens nothing.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._of: dict[int, _T] = {}

    def get(self) -> _T:
        """Return this process's."""
        try:
            return self._of[os.getpid()]
        except KeyError:
            return self._of.setdefault(os.getpid(), self._make())

    def peek(self) -> _T | None:
        """Return this process's; None if it has none."""
        return self._of.get(os.getpid())

    def take(self) -> _T | None:
        """Return this process's, and have another one made next time; None if it has none."""
        return self._of.pop(os.getpid(), None)
