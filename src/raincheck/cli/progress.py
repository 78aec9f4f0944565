"""Progress on a terminal: by rich where it is installed, else on one line that is rewritten."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, TextIO


class Bar(Protocol):
    """Where progress is shown."""

    def show(self, text: str, done: float, total: float | None, counted: str) -> None:
        """Show how far something is.

        Args:
            text: What is done; without what a terminal would obey.
            total: None: that is not known.
            counted: The numbers in words, for who sees no bar.
        """

    def end(self) -> None:
        """Leave the terminal to others."""


class NoBar:
    """For who does not look."""

    def show(self, text: str, done: float, total: float | None, counted: str) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""


def bar(*, wanted: bool = True, stream: TextIO | None = None) -> AbstractContextManager[Bar]:
    """Choose how to show progress: not at all where nobody looks."""
    stream = stream if stream is not None else sys.stderr
    if not wanted or not stream.isatty():
        return _no_bar()
    try:
        import rich.console
        import rich.progress
    except ModuleNotFoundError:
        return _line(stream)
    return _by_rich(rich, stream)


@contextmanager
def _no_bar() -> Iterator[Bar]:
    yield NoBar()


class _Line:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, text: str, done: float, total: float | None, counted: str) -> None:
        """Put a text in place of the last one."""
        self._stream.write(f"\r{text}{f' {counted}' if counted else ''}\x1b[K")
        self._stream.flush()

    def end(self) -> None:
        """Clear the line."""
        self.show("", 0, None, "")


@contextmanager
def _line(stream: TextIO) -> Iterator[Bar]:
    line = _Line(stream)
    try:
        yield line
    finally:
        line.end()


class _RichBar:
    def __init__(self, shown: Any) -> None:
        self._shown = shown
        self._task = shown.add_task("waiting", total=None)

    def show(self, text: str, done: float, total: float | None, counted: str) -> None:
        """Move the bar."""
        self._shown.update(self._task, description=text, completed=done, total=total)

    def end(self) -> None:
        """Take the bar away."""
        self._shown.stop()


@contextmanager
def _by_rich(rich: Any, stream: TextIO) -> Iterator[Bar]:
    columns = (
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeElapsedColumn(),
    )
    console = rich.console.Console(file=stream)
    with rich.progress.Progress(*columns, console=console, transient=True) as shown:
        yield _RichBar(shown)
