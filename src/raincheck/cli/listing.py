"""`raincheck list`: the operations of a store, the newest first."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from contextlib import suppress

from raincheck.cli.choosing import add_choice_to, choice
from raincheck.cli.commands import Commands, command
from raincheck.cli.documents import (
    LEGEND,
    SHOWN_OF_AN_ID,
    described_end,
    described_progress,
    document,
    line,
)
from raincheck.cli.exits import OK
from raincheck.cli.finding import newest
from raincheck.cli.opening import add_store_to, opened
from raincheck.cli.plain import duration, plain
from raincheck.cli.tables import Column, table
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import Operation
from raincheck.operations.store import Store

LIMIT = 50
EVERY = 2.0  # seconds
COLUMNS = (
    Column("ID", SHOWN_OF_AN_ID, is_whole=True),
    Column("STATE", 12, is_whole=True),
    Column("AGE", 12, is_whole=True),
    Column("REQUEST", 48),
    Column("PROGRESS", 30),
    Column("OWNER", 24),
    Column("END", 24),
)
_CLEAR = "\x1b[H\x1b[2J"


def add_to(commands: Commands) -> None:
    """Say what the command understands."""
    parser = command(commands, "list", "the operations of a store, the newest first")
    add_choice_to(parser)
    parser.add_argument("--limit", type=_count, default=LIMIT, help="at most so many (%(default)s)")
    parser.add_argument("--json", action="store_true", help="a JSON document on each line")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=EVERY,
        metavar="SECONDS",
        help=f"draw it again that often ({EVERY:g}), until Ctrl-C",
    )
    add_store_to(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List once, or again and again."""
    if options.watch is not None:
        with suppress(KeyboardInterrupt):
            _watch(options)
        return OK
    with opened(options.store) as store:
        sys.stdout.write(_listed(store, options))
    if not options.json and sys.stderr.isatty():
        sys.stdout.flush()
        print(LEGEND, file=sys.stderr)
    return OK


def _watch(options: argparse.Namespace) -> None:
    is_screen = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not options.json
    with opened(options.store) as store:
        while True:
            try:
                text = _listed(store, options)
            except StoreUnavailable as error:  # it may be back soon, and somebody is looking
                text = f"{plain(str(error), 1000)}\n"
            sys.stdout.write(f"{_CLEAR}{_cut(text)}" if is_screen else text)
            sys.stdout.flush()
            time.sleep(options.watch)


def _cut(text: str) -> str:
    """Keep the first lines, as many as the terminal has: the newest are there."""
    height = shutil.get_terminal_size().lines
    return "\n".join(text.splitlines()[: height - 1])


def _listed(store: Store, options: argparse.Namespace) -> str:
    found = newest(store, choice(options), options.limit)
    if options.json:
        return "".join(line(document(operation)) for operation in found)
    now = store.now()
    return table(COLUMNS, [_row(operation, now) for operation in found], sys.stdout)


def _row(operation: Operation, now: float) -> tuple[str, ...]:
    return (
        operation.id[:SHOWN_OF_AN_ID],
        str(operation.state),
        duration(now - operation.created),
        f"{operation.method} {operation.route}",
        described_progress(operation.progress),
        operation.owner or "",
        described_end(operation),
    )


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:9]) == int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds, from 0.1 to 86400")
    return seconds
