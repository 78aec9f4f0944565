"""What `raincheck fetch` shows of its progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from raincheck.cli.plain import plain
from raincheck.cli.progress import Bar, NoBar, bar
from raincheck.client import Progress


def described(progress: Progress) -> str:
    """Say in words how far an operation is."""
    end = f"until about {progress.estimate.astimezone():%H:%M:%S}" if progress.estimate else ""
    return " ".join(filter(None, ("waiting", plain(progress.message or ""), end)))


class Display:
    """Where progress is shown.

    Args:
        shown: The bar.
    """

    def __init__(self, shown: Bar) -> None:
        self._bar = shown

    @property
    def is_seen(self) -> bool:
        """Whether somebody looks."""
        return not isinstance(self._bar, NoBar)

    def operation(self, progress: Progress) -> None:
        """Show how far the operation is."""
        counted = ""
        if progress.completed is not None:
            total = f"/{progress.total:g}" if progress.total else ""
            counted = f"{progress.completed:g}{total}"
        self._bar.show(described(progress), progress.completed or 0, progress.total, counted)

    def received(self, done: int, total: int | None) -> None:
        """Show how many bytes of the response are there."""
        counted = f"{done:,}{f' of {total:,}' if total else ''} bytes"
        self._bar.show("receiving", done, total, counted)

    def end(self) -> None:
        """Leave the terminal to others."""
        self._bar.end()


@contextmanager
def display(*, wanted: bool, stream: TextIO | None = None) -> Iterator[Display]:
    """Choose how to show progress: not at all where nobody looks."""
    with bar(wanted=wanted, stream=stream) as shown:
        yield Display(shown)
