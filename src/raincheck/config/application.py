"""What an application is called, where several may share a machine or a store."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

_IMPORT_STRING = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(.*\))?")  # as servers are given it


def started(arguments: Sequence[str]) -> str:
    """Name what a command line starts: the same for all workers of a server, and after a restart.

    Args:
        arguments: As in `sys.argv`.
    """
    named = [a for a in arguments[1:] if _IMPORT_STRING.fullmatch(a) or a.endswith(".py")]
    return " ".join(named) or _program(arguments[0] if arguments else "")


def _program(path: str) -> str:
    """Name a program alike, whether it is started by its script or by `python -m`."""
    name = os.path.basename(path)
    return os.path.basename(os.path.dirname(path)) if name == "__main__.py" else name


def started_modules(arguments: Sequence[str]) -> list[str]:
    """Name the modules that a command line starts, as far as it tells.

    Args:
        arguments: As in `sys.argv`.
    """
    program = os.path.basename(arguments[0]) if arguments else ""
    is_own = program.endswith(".py") and program != "__main__.py"
    files = [a.removesuffix(".py") for a in arguments[1:] if a.endswith(".py")]
    strings = [a.partition(":")[0] for a in arguments[1:] if _IMPORT_STRING.fullmatch(a)]
    return [*strings, *files, *(["__main__"] if is_own else [])]


def name_of(kind: str, prefix: str) -> str:
    """Name the application that a middleware is around: who has the same runs its requests again.

    Args:
        kind: Of middleware; one of each may be in one process.
        prefix: The option of that name.
    """
    return f"{kind} {started(sys.argv)} {prefix}"
