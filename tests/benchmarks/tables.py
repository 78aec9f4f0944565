"""Tables on standard output, a row as soon as it is known."""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 34  # characters
OTHERS = 14


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        repeat: Runs whose median is taken.
        quick: Whether to measure less, and less exactly.
    """

    repeat: int = 3
    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        """Choose a count."""
        return quick if self.quick else full


class Table:
    """Prints its title and heading when it is made."""

    def __init__(self, title: str, *columns: str) -> None:
        print(f"\n{title}")
        self.row(*columns)
        print("-" * (FIRST + OTHERS * (len(columns) - 1)))

    def row(self, first: str, *others: str) -> None:
        """Print one row."""
        print(first.ljust(FIRST) + "".join(cell.rjust(OTHERS) for cell in others), flush=True)
