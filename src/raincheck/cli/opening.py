"""Which store a command works on: `--store`, `RAINCHECK_STORE`, or the file of the application."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import quote

from raincheck.cli.exits import UNUSABLE, Refusal
from raincheck.operations.store import Store
from raincheck.stores import open_store
from raincheck.stores.default import files_of
from raincheck.stores.describing import Describing, Description

HELP = (
    "such as postgresql://user@host/database; default: RAINCHECK_STORE, which keeps a password "
    "out of the list of processes, else the file of the application that was started in this "
    "directory"
)


def add_store_to(parser: argparse.ArgumentParser) -> None:
    """Let a command be told its store."""
    parser.add_argument("--store", metavar="URL", help=HELP)


def chosen(url: str | None) -> str:
    """Return the URL of the store that is meant.

    Raises:
        Refusal: None is named, and none or several may be meant.
    """
    url = url or os.environ.get("RAINCHECK_STORE")
    if url:
        return url
    files = files_of(os.getcwd())
    if len(files) == 1:
        return _url(str(files[0]))
    if not files:
        raise Refusal(
            "no application was started in this directory with the store that is the default: "
            "name one with --store or RAINCHECK_STORE"
        )
    lines = [f"  --store {_url(str(path))}" for path in files]
    raise Refusal(
        "\n".join(("several applications may have been started here; choose:", *lines)), UNUSABLE
    )


def _url(path: str) -> str:
    return f"sqlite://{quote(path)}"


@contextmanager
def opened(url: str | None) -> Iterator[Store]:
    """Open a store that is there and ready, and close it.

    Args:
        url: As the user gave it.

    Raises:
        ConfigurationError: It is no URL, or what it needs is not installed.
        StoreError: It can't be asked.
        Refusal: It is not there, or its tables are older than this raincheck.
    """
    with closing(open_store(chosen(url))) as store:
        if (told := description(store)) is not None:
            _require_ready(told)
        yield store


def description(store: Store) -> Description | None:
    """Return what a store says of itself, having made nothing; None: it does not."""
    return store.describe() if isinstance(store, Describing) else None


def _require_ready(told: Description) -> None:
    """See that nothing is made, or changed for all who use it, by a mere look."""
    if told.tables is None or told.tables == told.newest:
        return
    if not told.tables:
        hint = "is the URL right? `raincheck store init` makes a new one"
        raise Refusal(f"there is no store at {told.place}: {hint}")
    raise Refusal(
        f"the tables at {told.place} are of version {told.tables}, and this raincheck needs "
        f"{told.newest}: `raincheck store migrate` brings them there"
    )
