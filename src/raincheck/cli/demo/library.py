"""The demo's input: the source files of the Python standard library that runs it."""

from __future__ import annotations

import sys
import sysconfig
from functools import cache
from pathlib import Path

ROOT = Path(sysconfig.get_path("stdlib"))


class UnknownPackage(LookupError):
    """The standard library has no source files under that name."""


def source_files(package: str) -> list[Path]:
    """Return the files of a package or module, in the order of their names in an archive.

    Raises:
        UnknownPackage: It is no part of the standard library, or has no files here.
    """
    # Nothing is imported to find it, and no path is built from a name that isn't in the list.
    if package not in sys.stdlib_module_names:
        raise UnknownPackage(package)
    module = ROOT / f"{package}.py"
    files = [module] if module.is_file() else _files_below(ROOT / package)
    if not files:
        raise UnknownPackage(package)
    return files


def all_source_files() -> list[Path]:
    """Return the files of the whole standard library, in the same order."""
    files: list[Path] = []
    for name in sorted(sys.stdlib_module_names):
        try:
            files += source_files(name)
        except UnknownPackage:
            continue  # compiled in, or of another platform
    return sorted(files, key=member_name)


def member_name(file: Path) -> str:
    """Return the name that a file has in an archive."""
    return file.relative_to(ROOT).as_posix()


@cache
def packages() -> tuple[str, ...]:
    """Return the names of what is a directory: single modules are quick and less of a show."""
    return tuple(n for n in sorted(sys.stdlib_module_names) if _files_below(ROOT / n))


def _files_below(directory: Path) -> list[Path]:
    found = (p for p in directory.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sorted(found, key=member_name)
