"""`raincheck cancel`: operations are asked to stop, as by a DELETE of their client."""

from __future__ import annotations

import argparse

from raincheck.cli.changing import add_command, change_each
from raincheck.cli.commands import Commands
from raincheck.cli.plain import plain
from raincheck.engine.engine import Engine
from raincheck.operations.operation import Operation, State


def add_to(commands: Commands) -> None:
    """Say what the command understands."""
    add_command(commands, "cancel", "ask operations to stop, as their clients may", run)


def run(options: argparse.Namespace) -> int:
    """Cancel each."""
    return change_each(options, Engine.cancel, _say)


def _say(operation: Operation, has_changed: bool) -> str:
    state = plain(str(operation.state))
    sentences = {
        State.CANCELLED: "cancelled",
        State.CANCELLING: "cancelling: its process is told within a second or so",
    }
    if not has_changed:
        return f"{'had ended before' if operation.is_terminal else 'can not be cancelled'}: {state}"
    return sentences.get(operation.state, state)
