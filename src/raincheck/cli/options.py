"""`raincheck options`: every option, as the classes that have them are documented."""

from __future__ import annotations

import inspect
import re

from raincheck.config.limits import Limits
from raincheck.config.options import Settings


def tables() -> str:
    """Return all options, and then all limits, as two tables in Markdown."""
    options, limits = _table("option", Settings), _table("limit", Limits)
    return f"{options}\n\n`limits` are, for each process unless it says otherwise:\n\n{limits}"


def _table(kind: str, of: type[Settings] | type[Limits]) -> str:
    rows = [f"| `{name}` | {meaning} |" for name, meaning in documented(of).items()]
    return "\n".join([f"| {kind} | meaning |", "|---|---|", *rows])


_ATTRIBUTE = re.compile(r"^ {4}(\w+): ((?:.|\n {8})*)", re.MULTILINE)


def documented(of: type) -> dict[str, str]:
    """Return what a docstring says of each attribute, on one line."""
    text = inspect.getdoc(of) or ""
    section = text.partition("Attributes:\n")[2].partition("\n\n")[0]
    return {name: " ".join(text.split()) for name, text in _ATTRIBUTE.findall(section)}
