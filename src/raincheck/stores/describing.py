"""What a store can also tell an operator. Optional, as whoever runs an application needs none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Description:
    """What a store is.

    Attributes:
        kind: Its name, such as `SQLite`.
        place: Where it is, without any credential.
        server: The version of what keeps the data; None: that is not told.
        tables: The version of its tables; 0: there are none yet. None: it needs none.
        newest: The version that this raincheck makes, or brings them to.
        orders_states: Whether it finds the operations of one state in order without a look at
            others, and those of all states not.
        counts_ends: Whether it counts those that have ended in one state without reading them.
    """

    kind: str
    place: str
    server: str | None
    tables: int | None = None
    newest: int | None = None
    orders_states: bool = False
    counts_ends: bool = True


@runtime_checkable
class Describing(Protocol):
    """A store that says what it is."""

    def describe(self) -> Description:
        """Look, and make nothing: neither a file nor tables."""
        ...


@runtime_checkable
class Completing(Protocol):
    """A store that finds ids by how they begin."""

    def complete(self, beginning: str, limit: int) -> list[str]:
        """Return ids that begin so, at most `limit`; of some there may be no operation.

        Args:
            beginning: Letters and digits of ASCII.
        """
        ...
