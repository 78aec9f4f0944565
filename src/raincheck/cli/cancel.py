"""`raincheck cancel`: operations are asked to stop, as by a DELETE of their client."""

from __future__ import annotations

import argparse

from raincheck.cli.commands import Commands, command
from raincheck.cli.documents import SHOWN_OF_AN_ID, document, line
from raincheck.cli.exits import FAILED, OK, Refusal, complain
from raincheck.cli.finding import find_one
from raincheck.cli.opening import add_store_to, opened
from raincheck.cli.plain import plain
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.operations.operation import Operation, State
from raincheck.operations.store import Store


def add_to(commands: Commands) -> None:
    """Say what the command understands."""
    parser = command(commands, "cancel", "ask operations to stop, as their clients may")
    parser.add_argument("ids", nargs="+", metavar="ID", help="or its beginning")
    parser.add_argument("--json", action="store_true", help="a JSON document on each line")
    add_store_to(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Cancel each; one that is not there holds up no other one."""
    from raincheck.cli.engine import engine_on

    status = OK
    with opened(options.store) as store:
        engine = engine_on(store)
        for text in options.ids:
            try:
                found = find_one(store, text)
                became = engine.cancel(found.id)
                _say(became or _ended(store, found), became is not None, as_json=options.json)
            except Refusal as refusal:
                status = max(status, complain(plain(str(refusal), 1000), refusal.status))
            except StoreUnavailable:
                raise
            except StoreError as error:  # of this record alone: a newer raincheck may know more
                status = max(status, complain(plain(str(error), 1000), FAILED))
    return status


def _ended(store: Store, found: Operation) -> Operation:
    stored = store.get(found.id)
    if stored is None:
        raise Refusal(f"operation {found.id[:SHOWN_OF_AN_ID]} is gone")
    return stored


def _say(operation: Operation, has_changed: bool, *, as_json: bool) -> None:
    if as_json:
        print(line(document(operation)), end="")
        return
    state = plain(str(operation.state))
    sentences = {
        State.CANCELLED: "cancelled",
        State.CANCELLING: "cancelling: its process is told within a second or so",
    }
    if not has_changed:
        said = f"{'had ended before' if operation.is_terminal else 'can not be cancelled'}: {state}"
    else:
        said = sentences.get(operation.state, state)
    print(f"{plain(operation.id[:SHOWN_OF_AN_ID])}  {said}")
