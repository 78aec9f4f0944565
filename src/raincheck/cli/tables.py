"""Tables for people: by rich on a terminal where it is installed, else aligned text."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple, TextIO

from raincheck.cli.plain import plain

_GAP = "  "
_COLOURS = {
    **dict.fromkeys(("succeeded",), "green"),
    **dict.fromkeys(("failed",), "red"),
    **dict.fromkeys(("cancelled", "cancelling"), "yellow"),
    **dict.fromkeys(("accepted", "running"), "cyan"),
}


class Column(NamedTuple):
    """A column.

    Attributes:
        longest: Characters of a cell that are shown at most.
        is_whole: Whether a narrow terminal cuts other columns first.
    """

    title: str
    longest: int
    is_whole: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], stream: TextIO) -> str:
    """Return a table for a stream; whatever is in a cell obeys no terminal and breaks no line."""
    cells = [
        [plain(cell, column.longest) for column, cell in zip(columns, row, strict=True)]
        for row in rows
    ]
    if stream.isatty() and (rich := _rich()) is not None:
        return _by_rich(rich, columns, cells, stream)
    return _aligned([[column.title for column in columns], *cells], stream)


def pairs(rows: Sequence[tuple[str, str]]) -> str:
    """Return names and what they stand for, a line for each."""
    width = max(len(name) for name, _ in rows)
    lines = (f"{name:<{width}}{_GAP}{plain(text, 1000)}".rstrip() for name, text in rows)
    return "\n".join(lines) + "\n"


def _rich() -> Any:
    try:
        import rich.box
        import rich.console
        import rich.table
        import rich.text
    except ModuleNotFoundError:
        return None
    return rich


def _by_rich(
    rich: Any, columns: Sequence[Column], cells: Sequence[Sequence[str]], stream: TextIO
) -> str:
    console = rich.console.Console(file=stream, highlight=False)
    shown = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for n, column in enumerate(columns):
        least = max((len(row[n]) for row in cells), default=0) if column.is_whole else 3
        shown.add_column(column.title, no_wrap=True, overflow="ellipsis", min_width=least)
    for row in cells:
        shown.add_row(*(rich.text.Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    with console.capture() as captured:
        console.print(shown)
    return str(captured.get())


def _aligned(rows: Sequence[Sequence[str]], stream: TextIO) -> str:
    """Align columns; on a terminal a line is cut where the terminal ends."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if stream.isatty():
        width = shutil.get_terminal_size().columns
        lines = [plain(line, width) for line in lines]
    return "\n".join(lines) + "\n"
