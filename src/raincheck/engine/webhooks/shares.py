"""Who is told next, when there are more webhooks than threads.

A receiver is a host and port, for one owner: others may be at the same host, and one owner may name
many hosts. None takes more than its share of the threads, whatever it does with those it has; one
that has kept a thread and not answered is told one thing at a time, and the rest is put off, so
that nobody has to look through it again and again.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from raincheck.operations.operation import Operation

SLOW = 5.0  # seconds after which no answer means that a receiver is in trouble
PUT_OFF = (20.0, 60.0, 300.0)  # seconds, by how often it was
REMEMBERED = 1_000  # receivers

Receiver = tuple[str | None, str]


def receiver_of(operation: Operation) -> Receiver:
    """Name whom an operation's end is told."""
    url = operation.webhook or ""
    try:
        return operation.owner, urlsplit(url).netloc
    except ValueError:
        return operation.owner, ""


class Shares:
    """The threads of one process, and who has them.

    Args:
        most: Of the threads.
    """

    def __init__(self, most: int) -> None:
        self._lock = threading.Lock()
        self._of_receiver = max(2, most // 4)
        self._of_owner = max(2, most // 2)
        self._of_slow = max(1, most // 2)
        self._active: dict[str, Receiver] = {}  # by operation
        self._trouble: OrderedDict[Receiver, int] = OrderedDict()  # how often in a row

    def put_off(self, operation: Operation) -> float | None:
        """Return the seconds that an operation's receiver is to be left alone; None: it is not.

        Another thread tells it something, and finds out whether it is still in trouble.
        """
        receiver = receiver_of(operation)
        with self._lock:
            times = self._trouble.get(receiver, 0)
            is_other = operation.id not in self._active and receiver in self._active.values()
        return PUT_OFF[min(times, len(PUT_OFF)) - 1] if times and is_other else None

    def fits(self, operation: Operation) -> bool:
        """Tell whether an operation's receiver has a share left."""
        with self._lock:
            return self._fits(operation)

    @contextmanager
    def taken(self, operation: Operation) -> Iterator[bool]:
        """Take a thread for an operation's receiver, if it may have one more.

        Yields:
            Whether it has one.
        """
        with self._lock:
            if fits := self._fits(operation):
                self._active[operation.id] = receiver_of(operation)
        try:
            yield fits
        finally:
            if fits:
                with self._lock:
                    del self._active[operation.id]

    def note(self, operation: Operation, seconds: float, *, has_answered: bool) -> None:
        """Take note how it went to tell a receiver, and how long it took."""
        receiver = receiver_of(operation)
        with self._lock:
            times = self._trouble.pop(receiver, 0)
            if not has_answered and seconds > SLOW:
                self._trouble[receiver] = times + 1
            if len(self._trouble) > REMEMBERED:
                self._trouble.popitem(last=False)

    def _fits(self, operation: Operation) -> bool:
        if operation.id in self._active:
            return False
        receiver = receiver_of(operation)
        busy = Counter(self._active.values())
        if receiver in self._trouble:
            slow = sum(n for each, n in busy.items() if each in self._trouble)
            return not busy[receiver] and slow < self._of_slow
        owner = operation.owner
        of_owner = sum(n for each, n in busy.items() if each[0] == owner)
        return busy[receiver] < self._of_receiver and (owner is None or of_owner < self._of_owner)
