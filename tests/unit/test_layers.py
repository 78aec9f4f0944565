"""Imports point one way, and the pure middle stays pure."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import raincheck

PACKAGE = Path(raincheck.__file__).parent

# A module may import from its own layer and from those before it. Modules that are not named
# here are an error: a new one has to find its place.
LAYERS: list[set[str]] = [
    {"errors", "awake", "threads"},
    {"messages", "secret_options", "webhook_options", "application", "errands"},
    {"operation", "links", "json_errors", "references"},
    {"policy", "dialects", "records", "representation", "transitions"},
    {"contracts", "monitor", "marking", "sealing", "signing"},
    {"ledger"},
    {"options", "stores", "heartbeat", "watching", "backlog", "health", "handlers"},
    {"starting", "flights", "identity"},
    {"keys", "captured"},
    {"process"},
    {"admission", "recovery", "webhooks", "purging"},
    {"upkeep", "spool", "accepting"},
    {"core", "check"},
    {"beginning", "owning"},
    {"recording", "polling"},
    {"asgi", "wsgi", "check"},
    {"starlette", "flask", "gunicorn", "django"},
    {"demo", "testing"},
    {"cli", "__main__", "__init__"},
]
# In the same layer, but not to know each other.
STRANGERS = [("stores", "options"), ("options", "stores"), ("monitor", "contracts")]
PURE = {
    *(
        "errors",
        "messages",
        "operation",
        "transitions",
        "records",
        "links",
        "policy",
        "dialects",
        "monitor",
    ),
    *("representation", "references"),
    *("options", "secret_options", "webhook_options", "keys", "json_errors"),
}
IMPURE_MODULES = {
    *("time", "threading", "socket", "sqlite3", "logging", "asyncio", "anyio", "random", "os"),
    *("secrets", "subprocess", "io", "pathlib", "tempfile"),
}
FRAMEWORKS = {"starlette", "django", "flask", "fastapi", "anyio", "asyncio", "trio", "sqlite3"}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Return the modules that a file imports when it runs, not those for type checkers only."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    found = [n for n in ast.walk(tree) if isinstance(n, (ast.Import, ast.ImportFrom))]
    names: list[str] = []
    for node in found:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names += [alias.name for alias in node.names]
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


def parts_imported(path: Path) -> set[str]:
    known = set().union(*LAYERS)
    inner = [name.split(".") for name in imports(path) if name.split(".")[0] == "raincheck"]
    return {parts[1] for parts in inner if len(parts) > 1 and parts[1] in known}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_left(path: Path) -> None:
    rank = {part: n for n, layer in enumerate(LAYERS) for part in layer}
    part = part_of(path)
    assert part in rank, f"{part} has no place in LAYERS"
    for imported in parts_imported(path) - {part}:
        assert rank[imported] <= rank[part], f"{part} imports {imported}"
        assert (part, imported) not in STRANGERS


@pytest.mark.parametrize(
    "path", [p for p in FILES if part_of(p) in PURE], ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_the_middle_has_no_clock_no_io_and_no_threads(path: Path) -> None:
    assert not {name.split(".")[0] for name in imports(path)} & IMPURE_MODULES


def test_the_core_knows_no_store_and_no_event_loop() -> None:
    names = imports(PACKAGE / "core.py") + imports(PACKAGE / "recording.py")
    assert not [n for n in names if n.startswith(("raincheck.stores", "anyio", "asyncio"))]


def test_importing_raincheck_imports_no_framework_and_no_driver() -> None:
    code = "import sys, raincheck; print(*{name.split('.')[0] for name in sys.modules})"
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, env=env, capture_output=True, check=True).stdout
    assert not set(printed.decode().split()) & FRAMEWORKS


def test_everything_exported_can_be_imported() -> None:
    assert [name for name in raincheck.__all__ if not hasattr(raincheck, name)] == []
    assert raincheck.__all__ == sorted(raincheck.__all__)


def test_the_generator_that_applications_may_have_seeded_is_left_alone() -> None:
    shared = re.compile(r"\brandom\.(?!SystemRandom\b|Random\b)\w+\(")
    assert [str(path) for path in FILES if shared.search(path.read_text())] == []
