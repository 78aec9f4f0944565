"""Operations whose handlers run in this process, and what is known of them only here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from raincheck.backlog import Ending
from raincheck.contracts import Run
from raincheck.errors import StoreUnavailable
from raincheck.operation import Operation, Progress

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(slots=True)
class Flight:
    """An operation whose handler runs in this process.

    Attributes:
        renewed: When its lease was, by this process's clock.
        news: Progress that is not written yet.
        is_doubtful: Whether the store had lost its record, and maybe chunks.
        is_over: Whether its end is being recorded: what has to be made good is done there.
        lock: Held while one of the last two may become true.
    """

    operation: Operation
    run: Run
    renewed: float
    news: Progress | None = None
    is_doubtful: bool = False
    is_over: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def end(self, ending: Ending) -> Ending:
        """Take note that it is over, and add to its ending what is known here only."""
        with self.lock:
            self.is_over = True
        news, self.news = self.news, None
        event = ending.event if news is None else replace(ending.event, progress=news)
        return replace(ending, event=event, is_doubtful=self.is_doubtful)


def each(work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Do something with each, whatever the others meet, unless the store is away.

    Raises:
        Exception: What was met last.
    """
    results, failure = list[_R](), None
    for item in items:
        try:
            results.append(work(item))
        except StoreUnavailable:
            raise
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure
    return results
