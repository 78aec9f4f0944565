"""Examples, started as their docstrings say, in a copy."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.support.processes import ROOT, ServerProcess

EXAMPLES = ROOT / "examples"
SLOW = 90.0  # seconds

# How each server is told to listen on another port than the documented one.
LISTENING = {
    "uvicorn": ["--port", "{port}"],
    "gunicorn": ["--bind", "127.0.0.1:{port}", "--no-control-socket"],
    "runserver": ["{port}"],
}


def asked(ask: Callable[[], httpx.Response], status: int) -> httpx.Response:
    """Ask, and again where a machine under load has made a difference of 200 and 202.

    What is fast may outlast its budget there, and what is slow may be over as soon as the budget.
    """
    for _ in range(9):
        response = ask()
        if response.status_code == status or response.status_code not in (200, 202):
            break
    return response


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((EXAMPLES / name).read_text())) or ""


def commands(name: str) -> list[list[str]]:
    """Return the lines below "To run", without the interpreter."""
    found = re.search(r"^To run.*:\n((?:    .+\n)+)", docstring(name), re.MULTILINE)
    assert found is not None
    return [line.removeprefix("python ").split() for line in textwrap.dedent(found[1]).splitlines()]


def documented(name: str, line: str) -> list[str]:
    """Return a line that the docstring has elsewhere, without the interpreter."""
    assert re.search(rf"{re.escape(line)}$", docstring(name), re.MULTILINE)
    return line.removeprefix("python ").split()


def prepare(name: str, directory: Path, **changes: str) -> None:
    """Do what comes before the server's line; `changes` are arguments to put for others."""
    shutil.copytree(
        (EXAMPLES / name).parent,
        directory,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("__pycache__", "*.sqlite3*", "*.db"),
    )
    for command in commands(name)[:-1]:
        changed = [changes.get(part, part) for part in command]
        subprocess.run([sys.executable, *changed], cwd=directory, check=True, capture_output=True)


def serve(command: list[str], directory: Path) -> ServerProcess:
    """Run a server's line, on a port that is free."""
    temporary = directory / "temporary"
    temporary.mkdir(exist_ok=True)
    environment = {
        "XDG_STATE_HOME": str(directory / "state"),
        "RAINCHECK_STORE": "",
        "TMPDIR": str(temporary),
    }
    changed = [part.replace(":8000", ":{port}") for part in command]
    if changed == command:
        changed += next(options for server, options in LISTENING.items() if server in command)
    return ServerProcess(changed, cwd=directory, env=environment)


def start(name: str, directory: Path) -> ServerProcess:
    """Do what the docstring says."""
    prepare(name, directory)
    return serve(commands(name)[-1], directory)
