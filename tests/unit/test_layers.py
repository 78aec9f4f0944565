"""Imports point one way, file by file, and the pure middle stays pure."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import raincheck

PACKAGE = Path(raincheck.__file__).parent

# From the top to the bottom: a file may import from rooms below its own, and from its own.
ROOMS = [
    *("__main__", "cli"),
    *("flask", "django", "starlette", "gunicorn"),
    *("asgi", "wsgi"),
    "runners",
    "client",
    "testing",
    "stores",
    "monitor",
    "engine",
    "inspection",
    "contracts",
    "config",
    "handler",
    "operations",
    "http",
    "errors",
]
SAME_FLOOR = [{"asgi", "wsgi"}]  # neither knows the other
FACE = "__init__"  # of the package: it shows what is below
PURE = {"config", "operations", "http", "errors", "contracts"}
NOT_PURE = {"http/spool.py", "config/application.py"}  # files; the command line
PURE_TOO = {
    *("monitor/views.py", "monitor/links.py", "monitor/representation.py"),
    *("monitor/events.py", "monitor/estimates.py"),
    *("client/documents.py", "client/enclosed.py", "client/errors.py", "client/exchange.py"),
    *("client/fields.py", "client/following.py", "client/options.py", "client/starting.py"),
    "client/tokens.py",
}
IMPURE_MODULES = {
    *("time", "threading", "socket", "sqlite3", "logging", "asyncio", "anyio", "random", "os"),
    *("secrets", "subprocess", "io", "pathlib", "tempfile"),
}
FRAMEWORKS = {"starlette", "django", "flask", "fastapi", "anyio", "asyncio", "trio", "sqlite3"}
LONGEST_MODULE, LONGEST_FUNCTION = 400, 50  # lines
# Entries, beside the marker for type checkers: rooms, and what others import from just there.
MOST_AT_THE_ROOT = 22


FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path) -> list[str]:
    """Return all modules that a file imports, those for type checkers only included."""
    return [name for node in ast.walk(parsed(path)) for name in _named(node, path)]


def _named(node: ast.AST, path: Path) -> Iterator[str]:
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{path}: relative import"
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in MODULES else str(node.module)
    elif isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else FACE


def graph() -> dict[str, set[str]]:
    return {module: set(imports(path)) & set(MODULES) for module, path in MODULES.items()}


def test_each_room_has_its_place() -> None:
    assert {room_of(module) for module in MODULES} - {FACE} == set(ROOMS)


def test_imports_point_down() -> None:
    wrong = [
        f"{module} imports {imported}"
        for module, known in graph().items()
        for imported in known
        if module != "raincheck" and not points_down(room_of(module), room_of(imported))
    ]
    assert wrong == []


def points_down(room: str, imported: str) -> bool:
    if imported == FACE or {room, imported} in SAME_FLOOR:
        return False
    return ROOMS.index(imported) >= ROOMS.index(room)


def test_no_imports_go_round_in_a_circle() -> None:
    try:
        TopologicalSorter(graph()).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_the_root_has_few_entries() -> None:
    entries = [p.name for p in PACKAGE.iterdir() if p.name not in ("__pycache__", "py.typed")]
    assert len(entries) <= MOST_AT_THE_ROOT


def test_modules_and_functions_are_short_enough_to_be_read() -> None:
    assert [long for path in FILES for long in too_long(path)] == []


def too_long(path: Path) -> Iterator[str]:
    if len(path.read_text().splitlines()) > LONGEST_MODULE:
        yield str(path)
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for node in (node for node in ast.walk(parsed(path)) if isinstance(node, functions)):
        if (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION:
            yield f"{path}: {node.name}"


def is_pure(path: Path) -> bool:
    name = path.relative_to(PACKAGE).as_posix()
    is_of_pure_room = room_of(module_of(path)) in PURE and name not in NOT_PURE
    return is_of_pure_room or name in PURE_TOO


def test_the_middle_has_no_clock_no_io_and_no_threads() -> None:
    found = {path: {name.split(".")[0] for name in imports(path)} for path in FILES}
    assert [p for p in FILES if is_pure(p) and found[p] & IMPURE_MODULES] == []


def test_the_engine_knows_no_store_and_no_event_loop() -> None:
    names = [
        name
        for module, path in MODULES.items()
        for name in imports(path)
        if room_of(module) == "engine"
    ]
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
