"""Progress on a terminal: by rich where it is installed, else on one line that is rewritten.

Whatever a server says is shown without control characters: a terminal would obey them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TextIO

from raincheck.client import Progress

_LONGEST = 60  # characters of a message


def plain(text: str, longest: int = _LONGEST) -> str:
    """Return a text for a terminal, cut, and without what it would obey."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


class Display(Protocol):
    """Where progress is shown."""

    def operation(self, progress: Progress) -> None:
        """Show how far the operation is."""

    def received(self, done: int, total: int | None) -> None:
        """Show how many bytes of the response are there."""

    def end(self) -> None:
        """Leave the terminal to others."""


class Nowhere:
    """For who does not look."""

    def operation(self, progress: Progress) -> None:
        """Show nothing."""

    def received(self, done: int, total: int | None) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""


def display(*, wanted: bool, stream: TextIO | None = None) -> AbstractContextManager[Display]:
    """Choose how to show progress: not at all where nobody looks."""
    stream = stream if stream is not None else sys.stderr
    if not wanted or not stream.isatty():
        return _nowhere()
    try:
        import rich.console
        import rich.progress
    except ModuleNotFoundError:
        return _line(stream)
    return _bar(rich, stream)


@contextmanager
def _nowhere() -> Iterator[Display]:
    yield Nowhere()


def described(progress: Progress) -> str:
    """Say in words how far an operation is."""
    end = f"until about {progress.estimate.astimezone():%H:%M:%S}" if progress.estimate else ""
    return " ".join(filter(None, ("waiting", plain(progress.message or ""), end)))


class _Line:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def operation(self, progress: Progress) -> None:
        """Rewrite the line."""
        share = ""
        if progress.completed is not None:
            total = f"/{progress.total:g}" if progress.total else ""
            share = f" {progress.completed:g}{total}"
        self.write(f"{described(progress)}{share}")

    def received(self, done: int, total: int | None) -> None:
        """Rewrite the line."""
        self.write(f"receiving {done:,}{f' of {total:,}' if total else ''} bytes")

    def end(self) -> None:
        """Clear the line."""
        self.write("")

    def write(self, text: str) -> None:
        """Put a text in place of the last one."""
        self._stream.write(f"\r{text}\x1b[K")
        self._stream.flush()


@contextmanager
def _line(stream: TextIO) -> Iterator[Display]:
    line = _Line(stream)
    try:
        yield line
    finally:
        line.end()


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar = bar
        self._task = bar.add_task("waiting", total=None)

    def operation(self, progress: Progress) -> None:
        """Move the bar."""
        self._bar.update(
            self._task,
            description=described(progress),
            completed=progress.completed or 0,
            total=progress.total,
        )

    def received(self, done: int, total: int | None) -> None:
        """Move the bar."""
        self._bar.update(self._task, description="receiving", completed=done, total=total)

    def end(self) -> None:
        """Take the bar away."""
        self._bar.stop()


@contextmanager
def _bar(rich: Any, stream: TextIO) -> Iterator[Display]:
    columns = (
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeElapsedColumn(),
    )
    console = rich.console.Console(file=stream)
    with rich.progress.Progress(*columns, console=console, transient=True) as bar:
        yield _Bar(bar)
