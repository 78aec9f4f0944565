"""`raincheck purge`: what has expired is forgotten now, and what has ended, before its time."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from raincheck.cli.choosing import Choice, add_choice_to, choice
from raincheck.cli.commands import Commands, command
from raincheck.cli.documents import line
from raincheck.cli.exits import OK, UNUSABLE, Refusal
from raincheck.cli.opening import add_store_to, opened
from raincheck.cli.plain import duration
from raincheck.cli.progress import Bar, bar
from raincheck.operations.operation import TERMINAL, Operation
from raincheck.operations.store import Store

if TYPE_CHECKING:
    from raincheck.engine.engine import Engine

BATCH = 50  # operations after which others have their turn; with SQLite some ten milliseconds
REST = 0.5  # of the time that was worked


def add_to(commands: Commands) -> None:
    """Say what the command understands."""
    parser = command(
        commands, "purge", "forget what has expired; with --state and --older-than, what has ended"
    )
    add_choice_to(parser)
    parser.add_argument("-y", "--yes", action="store_true", help="ask nothing")
    parser.add_argument("--json", action="store_true", help="what was done, as a JSON document")
    add_store_to(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Forget what is meant, and say how much that was."""
    from raincheck.cli.engine import engine_on

    chosen = choice(options)
    is_early = chosen != Choice()
    if is_early:
        _require_whole(chosen)
    with opened(options.store) as store:
        engine = engine_on(store)
        done = _forget_early(engine, chosen, options) if is_early else _purge(engine, store)
    print(line(done) if options.json else _told(done), end="")
    return OK


def _require_whole(chosen: Choice) -> None:
    if chosen.states is None or chosen.older_than is None:
        raise Refusal(
            "to forget what has not expired, name --state and --older-than (0s: all)", UNUSABLE
        )
    if not chosen.states <= TERMINAL:
        names = ", ".join(sorted(chosen.states - TERMINAL))
        raise Refusal(f"only what has ended can be forgotten, and not: {names}", UNUSABLE)


def _told(done: dict[str, int]) -> str:
    lines = [f"{_responses(done['forgotten'])} forgotten"]
    if done["deleted"]:
        lines.append(f"{done['deleted']:,} that had been forgotten before: the records are deleted")
    if done["untold"]:
        lines.append(f"{_responses(done['untold'])} left: webhooks are still to be told")
    return "\n".join((*lines, ""))


def _responses(count: int) -> str:
    return f"{_counted(count)} {'was' if count == 1 else 'were'}"


def _counted(count: int) -> str:
    return f"{count:,} response{'' if count == 1 else 's'}"


# --- what has expired ----------------------------------------------------------------------------


def _purge(engine: Engine, store: Store) -> dict[str, int]:
    """Do what the heartbeat of an application does a second at a time, to the end."""
    from raincheck.engine.purging import Purge

    done = {"forgotten": 0, "deleted": 0, "untold": 0}
    with bar() as shown:

        def forget(operation_id: str) -> Operation | None:
            changed = engine.forget(operation_id)
            done["forgotten"] += changed is not None
            _show(shown, "forgetting", done["forgotten"], None)
            return changed

        for count in _deleting(store):
            done["deleted"] += count
            _show(shown, "deleting", done["deleted"], None)
        purge = Purge(store, forget, time.sleep)
        while not purge.turn():
            pass
    return done


def _deleting(store: Store) -> Iterator[int]:
    now, begun = store.now(), time.monotonic()
    while count := store.purge(now, BATCH):
        yield count
        time.sleep((time.monotonic() - begun) * REST)
        begun = time.monotonic()


def _show(shown: Bar, what: str, done: int, total: int | None) -> None:
    counted = f"{done:,}{f' of {total:,}' if total else ''}"
    shown.show(what, done, total, counted)


# --- what has ended ------------------------------------------------------------------------------


def _forget_early(engine: Engine, chosen: Choice, options: argparse.Namespace) -> dict[str, int]:
    from raincheck.engine.running import each

    ids, untold = _find(engine, chosen)
    done = {"forgotten": 0, "deleted": 0, "untold": untold}
    if not ids or not (options.yes or _is_confirmed(len(ids), chosen)):
        return done
    with bar() as shown:

        def forget(operation_id: str) -> None:
            done["forgotten"] += engine.forget(operation_id) is not None
            _show(shown, "forgetting", done["forgotten"], len(ids))

        each(forget, _gently(ids))
    return done


def _find(engine: Engine, chosen: Choice) -> tuple[list[str], int]:
    """Return the ids of what is meant, and of how many a webhook is still to be told."""
    # By expiry, as stores find that in order: whatever has ended, has one.
    which = replace(chosen.filter(chosen.states), forgotten=False, expires_before=math.inf)
    now, ids, untold = engine.store.now(), list[str](), 0
    with bar() as shown:
        for operation in engine.repository.find_all(which):
            if not chosen.has(operation, now):
                continue
            if operation.webhook is not None:
                untold += 1
            else:
                ids.append(operation.id)
                _show(shown, "finding", len(ids), None)
    return ids, untold


def _gently(ids: Iterable[str]) -> Iterator[str]:
    """Yield each, and let others have their turn now and then."""
    begun = time.monotonic()
    for n, operation_id in enumerate(ids, 1):
        yield operation_id
        if n % BATCH == 0:
            time.sleep((time.monotonic() - begun) * REST)
            begun = time.monotonic()


def _is_confirmed(count: int, chosen: Choice) -> bool:
    if not sys.stdin.isatty():
        raise Refusal("nobody can be asked here: add --yes to forget them", UNUSABLE)
    states = ", ".join(sorted(chosen.states or ()))
    age = duration(chosen.older_than or 0.0)
    question = f"Forget {_counted(count)} ({states}; begun {age} ago or before)? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
