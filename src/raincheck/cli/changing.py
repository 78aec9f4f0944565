"""What commands that change operations by their ids have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from raincheck.cli.commands import Commands, command
from raincheck.cli.documents import SHOWN_OF_AN_ID, document, line
from raincheck.cli.exits import FAILED, OK, Refusal, complain
from raincheck.cli.finding import find_one
from raincheck.cli.opening import add_store_to, opened
from raincheck.cli.plain import plain
from raincheck.engine.engine import Engine
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.operations.operation import Operation
from raincheck.operations.store import Store

Change = Callable[[Engine, str], Operation | None]
Sentence = Callable[[Operation, bool], str]


def add_command(commands: Commands, name: str, does: str, run: Callable[..., int]) -> None:
    """Say what such a command understands."""
    parser = command(commands, name, does)
    parser.add_argument("ids", nargs="+", metavar="ID", help="or its beginning")
    parser.add_argument("--json", action="store_true", help="a JSON document on each line")
    add_store_to(parser)
    parser.set_defaults(run=run)


def change_each(options: argparse.Namespace, change: Change, say: Sentence) -> int:
    """Change each, and say what it became; one that is not there holds up no other one.

    Args:
        change: Returns what an operation of that id has become; None: nothing else.
        say: What is said of an operation as it is then, and whether it was changed.
    """
    from raincheck.cli.engine import engine_on

    status = OK
    with opened(options.store) as store:
        engine = engine_on(store)
        for text in options.ids:
            try:
                found = find_one(store, text)
                became = change(engine, found.id)
                _print(became or _stored(store, found), became is not None, say, options.json)
            except Refusal as refusal:
                status = max(status, complain(plain(str(refusal), 1000), refusal.status))
            except StoreUnavailable:
                raise
            except StoreError as error:  # of this record alone: a newer raincheck may know more
                status = max(status, complain(plain(str(error), 1000), FAILED))
    return status


def _stored(store: Store, found: Operation) -> Operation:
    stored = store.get(found.id)
    if stored is None:
        raise Refusal(f"operation {found.id[:SHOWN_OF_AN_ID]} is gone")
    return stored


def _print(operation: Operation, has_changed: bool, say: Sentence, as_json: bool) -> None:
    if as_json:
        print(line(document(operation)), end="")
    else:
        print(f"{plain(operation.id[:SHOWN_OF_AN_ID])}  {say(operation, has_changed)}")
