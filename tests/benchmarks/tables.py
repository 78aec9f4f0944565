"""Tables on standard output, a row as soon as it is known, and what each benchmark is asked by.

Where the environment names a file, the figures of the tables are noted in it, too.
"""

from __future__ import annotations

import argparse
import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.figures import Better, Figure, note, note_missing, of_rounds

NOTES = "BENCHMARK_NOTES"  # in the environment: the file of figures
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
    """Prints its title and heading when it is made.

    Args:
        title: What is measured, the same in all runs: figures are found by it.
        detail: How it is measured, and how often.
    """

    def __init__(self, title: str, *columns: str, detail: str = "") -> None:
        self._title, self._columns = title, columns
        print(f"\n{title}, {detail}" if detail else f"\n{title}")
        self.row(*columns)
        print("-" * (FIRST + OTHERS * (len(columns) - 1)))

    def row(self, first: str, *others: str | Figure) -> None:
        """Print one row, and note its figures."""
        cells = "".join(str(cell).rjust(OTHERS) for cell in others)
        print(first.ljust(FIRST) + cells, flush=True)
        for column, cell in zip(self._columns[1:], others, strict=False):
            if isinstance(cell, Figure):
                _note(note(f"{self._title} / {first} / {column}", cell))


def more(value: float, shown: str = ",.0f") -> Figure:
    """Return an absolute number of which more is better."""
    return Figure(value, "more", shown)


def less(value: float, shown: str = ".1f") -> Figure:
    """Return an absolute number of which less is better."""
    return Figure(value, "less", shown)


def ratio(
    numerators: Iterable[float], denominators: Iterable[float], better: Better, shown: str = ".2f"
) -> Figure:
    """Return the ratio of what was measured in the same rounds."""
    values = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return of_rounds(values, better, shown)


@functools.cache
def missing(what: str) -> None:
    """Say what is missing, and what it means for the tables; once."""
    print(f"\nMissing: {what}", flush=True)
    _note(note_missing(what))


def _note(line: str) -> None:
    if path := os.environ.get(NOTES):
        with Path(path).open("a") as notes:
            notes.write(f"{line}\n")


def parser(name: str, doc: str | None) -> argparse.ArgumentParser:
    """Return what reads a benchmark's arguments, of which each has `--quick`."""
    made = argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks.{name}",
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--quick", action="store_true", help="measure less, and less exactly")
    return made


def choose(asked: argparse.ArgumentParser, option: str, known: Iterable[str]) -> None:
    """Add an option that names some of what is known, with commas between; all by default."""
    all_ = list(known)

    def read(text: str) -> list[str]:
        given = text.split(",")
        if unknown := [name for name in given if name not in all_]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: known are {', '.join(all_)}")
        return given

    shown = f"of {', '.join(all_)}"
    asked.add_argument(option, type=read, default=all_, metavar="NAME,...", help=shown)
