"""What an application is called, where several may share a machine or a store."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

_IMPORT_STRING = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(.*\))?")  # as servers are given it

_FOR_WORK = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*(\(\))?")  # as `python -m raincheck work` takes it


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


def is_whole(named: str) -> bool:
    """Tell whether a worker that is given what `started` has named has the same name by that."""
    return _FOR_WORK.fullmatch(named) is not None


def has_own_store(option: object) -> bool:
    """Tell whether an application keeps operations where nothing that is started otherwise looks.

    Args:
        option: The option `store`.
    """
    return option is None and not os.environ.get("RAINCHECK_STORE")


def targets_of(named: str) -> list[str]:
    """Return the applications and factories that `started` has named, and no files.

    That a factory is called without arguments is said by some servers in other words.
    """
    return [each.removesuffix("()") for each in named.split() if _IMPORT_STRING.fullmatch(each)]


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
