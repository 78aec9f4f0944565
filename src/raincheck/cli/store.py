"""`raincheck store`: what is done to a store by hand, and what can be said of it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from raincheck.cli.commands import Commands, command
from raincheck.cli.documents import SHOWN_OF_AN_ID, line, moment
from raincheck.cli.exits import FAILED, OK, UNUSABLE, Refusal
from raincheck.cli.opening import add_store_to, chosen, description
from raincheck.cli.plain import duration
from raincheck.cli.tables import pairs
from raincheck.operations.operation import IN_FLIGHT, TERMINAL, Operation, State
from raincheck.operations.store import Filter
from raincheck.stores import OBJECTS, open_store

if TYPE_CHECKING:
    from raincheck.operations.store import Store
    from raincheck.stores.describing import Description

_NO_LIMIT = 1 << 31
_ROUND_TRIPS = 3  # of which the quickest counts: the first may have had to connect


def add_to(commands: Commands) -> None:
    """Say what the command understands."""
    store = command(commands, "store", "what is done to a store by hand, and what it is")
    actions = store.add_subparsers(dest="action", required=True)
    info = command(actions, "info", "what a store is and has, and whether it answers")
    info.add_argument("--json", action="store_true", help="as a JSON document on one line")
    add_store_to(info)
    info.set_defaults(run=_info)
    init = command(actions, "init", "make a store's tables, or bring them up to date")
    init.add_argument("url", nargs="?", metavar="URL", help="the same as --store URL")
    add_store_to(init)
    init.set_defaults(run=_init, refuse=init.error)
    migrate = command(actions, "migrate", "bring a store's tables up to date")
    add_store_to(migrate)
    migrate.set_defaults(run=_migrate)


# --- init, migrate -------------------------------------------------------------------------------


def _init(options: argparse.Namespace) -> int:
    if options.url and options.store:
        raise Refusal("name the store once: as URL, or with --store", UNUSABLE)
    with closing(open_store(_named(options))) as store:
        print(_prepare(store))
    return OK


def _named(options: argparse.Namespace) -> str:
    """Return the URL of a store that need not be there yet."""
    try:
        return chosen(options.url or options.store)
    except Refusal:
        options.refuse("name a store: URL, --store URL or RAINCHECK_STORE")
        raise


def _migrate(options: argparse.Namespace) -> int:
    with closing(open_store(chosen(options.store))) as store:
        told = description(store)
        if told is not None and told.tables == 0:
            raise Refusal(f"there is no store at {told.place}: `raincheck store init` makes one")
        if told is not None and told.tables == told.newest:
            store.get("none")  # what an older raincheck of the same version lacks is added by use
            tables = "it has no tables" if told.tables is None else f"version {told.tables}"
            print(f"There is nothing to do: {told.kind} at {told.place} is up to date ({tables})")
        else:
            print(_prepare(store))
    return OK


def _prepare(store: Store) -> str:
    """Do what a store needs once, and say what that was."""
    prepare = getattr(store, "prepare", None)
    if prepare is None:
        store.get("none")  # whatever it needs, it makes at first use
        return "This store is ready: it needs nothing to be made by hand"
    before, now, schema = prepare()
    tables = f"raincheck's tables in schema {schema}"
    if before == now:
        return f"{tables} are there already, in version {now}"
    if before:
        return f"{tables} were brought from version {before} to {now}"
    return (
        f"{tables} were made, in version {now}; another role that is to use them needs "
        "USAGE on the schema and SELECT, INSERT, UPDATE and DELETE on the tables"
    )


# --- info ----------------------------------------------------------------------------------------


def _info(options: argparse.Namespace) -> int:
    with closing(open_store(chosen(options.store))) as store:
        told = description(store)
        document = _about(told)
        if told is None or told.tables == told.newest:
            document |= _contents(store, told)
        if options.json:
            sys.stdout.write(line(document))
        else:
            sys.stdout.write(pairs(_rows(document)))
    return FAILED if document["tables"] == 0 else OK


def _about(told: Description | None) -> dict[str, Any]:
    if told is None:
        return {"kind": "unknown", "place": None, "server": None, "tables": None, "newest": None}
    names = ("kind", "place", "server", "tables", "newest")
    return {name: getattr(told, name) for name in names}


def _contents(store: Store, told: Description | None) -> dict[str, Any]:
    waiting, _ = store.find(Filter(states=frozenset({State.ACCEPTED})), limit=1)
    now = store.now()
    return {
        "round_trip_ms": _round_trip(store),
        "operations": _counts(store, told),
        "oldest_waiting": _waiting(waiting[0], now) if waiting else None,
    }


def _round_trip(store: Store) -> float:
    times = []
    for _ in range(_ROUND_TRIPS):
        begun = time.perf_counter()
        store.get("none")
        times.append(time.perf_counter() - begun)
    return round(min(times) * 1000, 3)


def _counts(store: Store, told: Description | None) -> dict[str, int | None]:
    """Count by state; None where the store would have to read all records for it."""
    from raincheck.engine.repository import Repository

    count = Repository(store).count
    counts: dict[str, int | None] = {}
    for state in State:
        is_cheap = state in IN_FLIGHT or told is None or told.counts_ends
        which = Filter(states=frozenset({state}))
        counts[str(state)] = count(which, _NO_LIMIT) if is_cheap else None
    own = store.get(OBJECTS) is not None  # a record, and no operation
    if own and (succeeded := counts[State.SUCCEEDED]) is not None:
        counts[State.SUCCEEDED] = succeeded - 1
    flying = sum(counts[state] or 0 for state in IN_FLIGHT)
    ended = [counts[state] for state in TERMINAL]
    known = [number for number in ended if number is not None]
    has_all = len(known) == len(ended)
    counts["ended"] = sum(known) if has_all else max(0, count(Filter(), _NO_LIMIT) - own - flying)
    return counts


def _waiting(operation: Operation, now: float) -> dict[str, Any]:
    age = round(max(0.0, now - operation.created), 3)
    return {"id": operation.id, "created": moment(operation.created), "age_seconds": age}


def _rows(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    server = document["server"]
    rows = [
        ("store", f"{document['kind']}{f' {server}' if server else ''}"),
        ("place", document["place"] or "not told"),
        ("tables", _tables(document)),
    ]
    if "round_trip_ms" not in document:
        return rows
    rows.append(("answers in", f"{document['round_trip_ms']:g} ms"))
    for state, count in document["operations"].items():
        rows.append((state, "not counted by this store" if count is None else f"{count:,}"))
    rows.append(("oldest waiting", _oldest(document["oldest_waiting"])))
    return rows


def _tables(document: Mapping[str, Any]) -> str:
    tables, newest = document["tables"], document["newest"]
    if tables is None:
        return "needs none"
    if not tables:
        return "none yet: `raincheck store init` makes them"
    if tables == newest:
        return f"version {tables}"
    return f"version {tables}, and {newest} is needed: `raincheck store migrate`"


def _oldest(waiting: Mapping[str, Any] | None) -> str:
    if waiting is None:
        return "none"
    return f"{waiting['id'][:SHOWN_OF_AN_ID]}, for {duration(waiting['age_seconds'])}"
