"""What all tests share."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from raincheck.handler import marking
from tests.support.asgi import BACKENDS

LONG = [
    Path(__file__).parent / name
    for name in (
        "gateways",
        "stores/failing",
        "torture",
        "servers",
        "runners",
        "examples",
        "django",
        "stores",
    )
]
OF_FRAMEWORKS = [Path(__file__).parent / name for name in ("frameworks", "handlers", "django")]

# A run has hundreds of processes: what one of them has compiled the others need not.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_configure(config: pytest.Config) -> None:
    """Have SIGINT end what tests start: a shell has what it runs in the background ignore it."""
    # Files are handed out as they are sorted below, and not those with the most tests first.
    config.option.loadscopereorder = False
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage meanwhile: almost all that is imported and collected stays."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Have no collection look again at what has been imported and collected: a million objects."""
    if sys.version_info < (3, 14):  # from there on Hypothesis asks who refers to something
        gc.collect()
        gc.freeze()


def pytest_sessionfinish() -> None:
    """Show it all again: what is imported now may ask who refers to something."""
    gc.unfreeze()
    # pytest-xdist kills a worker that takes its time to end, and what it has counted is not lost.
    coverage = sys.modules.get("coverage")
    if coverage and (measuring := coverage.Coverage.current()):
        measuring.save()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what checks the same for each framework; what takes long comes first, in parallel."""
    items.sort(key=lambda item: _place(item.path))
    for item in items:
        if _is_of_frameworks(item.path):
            item.add_marker(pytest.mark.framework)


@functools.cache
def _place(path: Path) -> int:
    places = (n for n, directory in enumerate(LONG) if directory in path.parents)
    return next(places, len(LONG))


@functools.cache
def _is_of_frameworks(path: Path) -> bool:
    return any(directory in path.parents for directory in OF_FRAMEWORKS)


@pytest.fixture(params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run every test that is marked `anyio` on both event loops."""
    return str(request.param)


@pytest.fixture(autouse=True)
def no_queues_of_others(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no handler of another test, which workers would run, make this one's requests be kept.

    Whoever collects tests has imported all of them.
    """
    if "runners" not in request.path.parts:
        known = marking._known_markings
        own = {each for each in known if each.queue is None}
        monkeypatch.setattr(marking, "_known_markings", own)
