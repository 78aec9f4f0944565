"""`raincheck retry`: what waits in a queue may be begun now, whatever it waits for."""

from __future__ import annotations

import argparse

from raincheck.cli.changing import add_command, change_each
from raincheck.cli.commands import Commands
from raincheck.cli.plain import plain
from raincheck.engine.engine import Engine
from raincheck.operations.operation import Operation
from raincheck.operations.transitions import Event, Told


def add_to(commands: Commands) -> None:
    """Say what the command understands."""
    add_command(commands, "retry", "have workers begin now what waits in a queue", run)


def run(options: argparse.Namespace) -> int:
    """Have each be begun now."""
    return change_each(options, _retry, _say)


def _retry(engine: Engine, operation_id: str) -> Operation | None:
    def retry(stored: Operation) -> Event | None:
        is_waiting = stored.queue is not None
        return Told(engine.store.now(), lifts_time=True) if is_waiting else None

    return engine.repository.change(operation_id, retry)


def _say(operation: Operation, has_changed: bool) -> str:
    if has_changed:
        return f"may be begun: the workers of {plain(str(operation.queue))} are told within seconds"
    if operation.is_terminal:
        state = plain(str(operation.state))
        return f"has ended ({state}), and stays so: its client may send the request again"
    waits = "waits in no queue" if operation.queue is None else "is begun already"
    return f"{waits}: {plain(str(operation.state))}"
