"""Reading many records, of which some can't be read: the others are none the worse for it.

A newer raincheck may have written one, or the disk may have spoilt it. It is left out of what is
found, said once, and left alone; whoever asks for that very operation is told what is wrong.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple

from raincheck.errors import StoreError
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, is_overtaken
from raincheck.operations.records import decode, decode_request
from raincheck.operations.store import Filter
from raincheck.stores.paging import to_page

SAID_AT_MOST = 1_000  # records; of more it is only said that there are
PASSED_AT_MOST = 1_000  # rows that are read for one page: they may all be unreadable

logger = logging.getLogger("raincheck")


REMEMBERED = 512  # records, as they are written
LARGEST_BYTES = 4096  # of one that is remembered


def decode_again(document: str | bytes) -> Operation:
    """Decode a record that is looked at over and over: mostly it is as it was.

    Raises:
        StoreError: It can't be read.
    """
    return _remembered(document) if len(document) <= LARGEST_BYTES else decode(document)


def read_known(documents: Iterable[str | bytes | None]) -> dict[str, Operation]:
    """Return those that can be read, by their ids; None: there is none.

    Nothing is said of the others: whoever asks for one is told what is wrong with it.
    """
    found: dict[str, Operation] = {}
    for document in documents:
        with suppress(StoreError):
            if document is not None:
                operation = decode_again(document)
                found[operation.id] = operation
    return found


_remembered = lru_cache(maxsize=REMEMBERED)(decode)


class Row(NamedTuple):
    """A record as a table has it, and its place in the order of the page as the table knows it."""

    moment: float
    key: str
    document: str | bytes


def fetched(
    document: str | bytes | None, request: str | bytes | None
) -> tuple[Operation, Request | None] | None:
    """Read an operation and the request that is kept with it; None if there is no operation."""
    if document is None:
        return None
    return decode(document), None if request is None else decode_request(request)


class Reader:
    """Reads the records of one store."""

    def __init__(self) -> None:
        self._said: set[int] = set()  # hashes of documents

    def read(self, document: str | bytes) -> Operation | None:
        """Return an operation; None if it can't be read."""
        try:
            return decode(document)
        except StoreError as error:
            if len(self._said) <= SAID_AT_MOST and (this := hash(document)) not in self._said:
                self._say(this, error)
            return None

    def _say(self, this: int, error: StoreError) -> None:
        if len(self._said) < SAID_AT_MOST:
            logger.error("an operation is left out of what is found: %s", error)
        else:
            logger.error("more operations can't be read; they are left out and not said")
        self._said.add(this)

    def is_overtaken(self, document: str | bytes | None, fence: int) -> bool:
        """Tell whether a chunk of a response comes too late for a record; None: there is none."""
        return is_overtaken(None if document is None else self.read(document), fence)

    def read_all(self, documents: Iterable[str | bytes]) -> list[Operation]:
        """Return those operations that can be read."""
        return [one for document in documents if (one := self.read(document)) is not None]

    def read_page(
        self,
        fetch: Callable[[Row | None], list[Row]],
        limit: int,
        which: Filter,
        to_id: Callable[[str], str] = str,
    ) -> tuple[list[Operation], str | None]:
        """Return a page of operations, and the cursor for the next one.

        Args:
            fetch: Returns the rows after one, in order; None: from the page's beginning. One more
                than `limit`, if there are so many.
            limit: How many operations at most.
            which: What they are found by.
            to_id: Returns the id that a row's key stands for.
        """
        found, last, passed = list[Operation](), None, 0
        while True:
            rows = fetch(last)
            readable = self.read_all(row.document for row in rows)
            found += readable
            if len(found) > limit or len(rows) <= limit or len(readable) == len(rows):
                return to_page(found, limit, which)
            last, passed = rows[-1], passed + len(rows)
            if passed > PASSED_AT_MOST:
                return found, f"{last.moment!r} {to_id(last.key)}"
