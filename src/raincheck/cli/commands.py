"""How a command of the operator is added: all have the same exit statuses, and say so."""

from __future__ import annotations

import argparse
from typing import TypeAlias

from raincheck.cli.exits import STATUSES

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def command(commands: Commands, name: str, purpose: str) -> argparse.ArgumentParser:
    """Return the parser of a new command."""
    return commands.add_parser(
        name,
        help=purpose,
        description=f"{purpose[0].upper()}{purpose[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=STATUSES,
        allow_abbrev=False,
    )
