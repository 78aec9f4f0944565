"""Transactions, and what several writers of one process do within one."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from raincheck.errors import StoreError

MOST = 50  # parts of one transaction: other processes want to write, too

_T = TypeVar("_T")


def within(connection: sqlite3.Connection, work: Callable[[sqlite3.Connection], _T]) -> _T:
    """Do something in a transaction: all of it, or nothing."""
    is_within = connection.in_transaction  # as what a signal interrupts may be: that stays
    try:
        # Not DEFERRED: upgrading a read lock fails at once, whatever the patience. Within `try`: an
        # interrupt that comes between would leave it open, and nobody here could write any more.
        connection.execute("BEGIN IMMEDIATE")
        result = work(connection)
        connection.execute("COMMIT")
        return result
    except BaseException:
        if connection.in_transaction and not is_within:
            connection.execute("ROLLBACK")
        raise


class Part(Generic[_T]):
    """What one writer does, or nothing of it; it is told what came of it if all is committed.

    Args:
        adds: Whether it may take room for good.

    Attributes:
        is_done: Whether it is committed, or refused by its own rules.
    """

    def __init__(self, work: Callable[[sqlite3.Connection], _T], *, adds: bool) -> None:
        self.adds = adds
        self.is_done = False
        self._work = work
        self._found: list[_T] = []
        self._error: StoreError | None = None

    def do(self, connection: sqlite3.Connection) -> None:
        """Do it in the transaction of all; what it refuses itself concerns nobody else."""
        self._found, self._error = [], None
        connection.execute("SAVEPOINT part")
        try:
            self._found.append(self._work(connection))
        except StoreError as error:
            connection.execute("ROLLBACK TO part")
            self._error = error
        connection.execute("RELEASE part")

    def result(self) -> _T:
        """Return what came of it, or raise why it was refused."""
        if self._error is not None:
            raise self._error
        return self._found[0]


def do_all(parts: list[Part[Any]], connection: sqlite3.Connection) -> None:
    """Do several parts of one transaction."""
    for part in parts:
        part.do(connection)


def take(waiting: deque[Part[Any]], one: Part[Any]) -> list[Part[Any]]:
    """Take out one and others who wait; none if there are no others: it had better do it alone.

    In any case `one` waits no longer: nobody else does it from then on.
    """
    if not withdraw(waiting, one):
        return []
    others: list[Part[Any]] = []
    with suppress(IndexError):  # somebody was interrupted, and has withdrawn
        while waiting and len(others) < MOST - 1:
            others.append(waiting.popleft())
    return [one, *others] if others else []


def withdraw(waiting: deque[Part[Any]], one: Part[Any]) -> bool:
    """Take one out; False if others have."""
    try:
        waiting.remove(one)
    except ValueError:
        return False
    return True
