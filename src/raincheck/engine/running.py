"""Operations whose handlers run in this process, and what is known of them only here."""

from __future__ import annotations

import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from raincheck.engine.outbox import Ending
from raincheck.engine.per_process import PerProcess
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import Operation, Owned, Progress, Reason
from raincheck.operations.transitions import bind

_T = TypeVar("_T")
_R = TypeVar("_R")

LAST_WORDS = 2.0  # seconds that shutdown gives handlers it has cancelled
PAUSE = 0.5  # seconds between calls of a store that is away


class Run(Protocol):
    """A handler that runs in this process, as the engine needs to see it. Thread-safe."""

    @property
    def is_stranded(self) -> bool:
        """Whether it will never go on: its event loop has ended before it."""
        ...

    def request_cancel(self) -> None:
        """Ask the handler to stop; returns at once."""
        ...

    def give_up(self, reason: Reason) -> None:
        """End the operation without a response, unless it has one, and ask the handler to stop."""
        ...


class Deferred(Run, Protocol):
    """A handler of which a server has been told that it goes on."""

    @property
    def operation(self) -> Operation | None:
        """What it works on."""
        ...


@dataclass(slots=True)
class RunningOperation:
    """An operation whose handler runs in this process.

    Attributes:
        run: Its handler; None until that has begun.
        renewed: When its lease was, by this process's clock.
        begun: When its handler was, by the same.
        timeout: Seconds its handler may run; None: no limit.
        stored: How it was stored last, as far as is known here.
        is_attended: Whether its client still waits for the response itself: neither `timeout` nor
            `abandon_after` counts yet.
        news: Progress that is not written yet.
        is_asked: Whether it may turn out whose its operation is, which is nobody's so far.
        owned: Whose its operation has turned out to be, after it was recorded.
        is_owner_written: Whether its record says so.
        looked: When it was last seen whether anybody polls, by this process's clock.
        is_doubtful: Whether the store had lost its record, and maybe chunks.
        is_over: Whether its end is being recorded: what has to be made good is done there.
        lingers: Whether its handler may go on when its end is recorded.
        lock: Held while one of the last three may become true.
    """

    operation: Operation
    run: Run | None
    timeout: float | None = None
    stored: Operation | None = None
    renewed: float = field(default_factory=lambda: time.monotonic())
    begun: float = field(default_factory=lambda: time.monotonic())
    is_attended: bool = False
    news: Progress | None = None
    is_asked: bool = False
    owned: Owned | None = None
    is_owner_written: bool = True
    looked: float = field(default_factory=lambda: time.monotonic())
    is_doubtful: bool = False
    is_over: bool = False
    lingers: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    _gone: threading.Event | None = None  # few are waited for

    def gone(self) -> threading.Event:
        """Return what is set when its handler is over, and its end recorded as far as can be."""
        with self.lock:
            self._gone = self._gone or threading.Event()
            return self._gone

    @property
    def known(self) -> Operation | None:
        """How it is stored, as far as is known here; None: it has to be asked for."""
        # What was recorded again counts its versions anew: one may be of another state.
        stored = None if self.is_doubtful else self.stored
        return stored if stored is not None and stored.fence == self.operation.fence else None

    @property
    def is_late(self) -> bool:
        """Whether its handler has run longer than it may."""
        if self.timeout is None or self.is_attended:
            return False
        return time.monotonic() - self.begun > self.timeout

    @property
    def has_news(self) -> bool:
        """Whether its record lacks something that is known here."""
        return self.news is not None or not self.is_owner_written

    @property
    def tells_duration(self) -> bool:
        """Whether clients poll for ends like its own, and it is recorded when it comes."""
        return not (self.is_attended or self.is_doubtful)

    def leave_alone(self) -> None:
        """Take note that its client does not wait any longer."""
        if self.is_attended:
            self.begun = self.looked = time.monotonic()
            self.is_attended = False

    def own(self, owned: Owned) -> None:
        """Take note of whose it is; the next beat writes it, or its end."""
        self.owned = owned
        self.is_owner_written = False
        self.operation = bind(self.operation, owned)

    def cancel(self) -> None:
        """Ask the handler to stop."""
        if self.run is not None:
            self.run.request_cancel()

    def end(self, ending: Ending) -> Ending:
        """Take note that it is over, and add to its ending what is known here only."""
        with self.lock:
            self.is_over = True
        news, self.news = self.news, None
        event = ending.event if news is None else replace(ending.event, progress=news)
        event = event if self.owned is None else replace(event, owned=self.owned)
        lets_go = self.operation.coalesced and self.is_attended
        return replace(ending, event=event, is_doubtful=self.is_doubtful, lets_go=lets_go)


def name_process() -> str:
    """Return a name for this process that no other has."""
    return f"{os.getpid()}-{secrets.token_hex(8)}"


class RunningOperations:
    """Those of this process; a fork has none of the handlers, and must not speak for them.

    Attributes:
        at_end: Called whenever one does not run here any more.
    """

    def __init__(self) -> None:
        self._of = PerProcess(dict[str, RunningOperation])
        self._name = PerProcess(name_process)
        self.at_end: Callable[[], object] | None = None

    @property
    def worker(self) -> str:
        """The name of this process, where its store has given it none; no other has it."""
        return self._name.get()

    def __len__(self) -> int:
        return len(self._here)

    def __contains__(self, operation_id: str) -> bool:
        return operation_id in self._here

    def all(self) -> list[RunningOperation]:
        """Return those of now."""
        return list(self._here.values())

    def get(self, operation_id: str) -> RunningOperation | None:
        """Return an operation that runs here; None if it does not."""
        return self._here.get(operation_id)

    def of(self, operation: Operation) -> RunningOperation | None:
        """Return an operation whose very run this is; None if that is over, or another runs."""
        running = self._here.get(operation.id)
        is_same = running is not None and running.operation.fence == operation.fence
        return running if is_same else None

    def add(self, running: RunningOperation) -> bool:
        """Take note of an operation that runs here; False if it does already."""
        return self._here.setdefault(running.operation.id, running) is running

    def wait_for(self, operation_id: str, seconds: float | None = None) -> bool:
        """Wait until an operation does not run here any more; False if it still does then."""
        running = self.get(operation_id)
        if running is None:
            return True
        gone = running.gone()
        # It may have been dropped before anybody could see that somebody waits.
        return self.get(operation_id) is not running or gone.wait(seconds)

    def outlast(self, operation: Operation, work: Callable[[], _R]) -> _R:
        """Return what `work` returns, however long the store is away.

        A handler must not go on without it, and its response is promised: no outage may end it. The
        main thread does not wait, as it is the one that hears signals; nor does an event loop's.

        Raises:
            StoreUnavailable: It is, and the operation does not run here any more.
        """
        while True:
            try:
                return work()
            except StoreUnavailable:
                running = self.of(operation)
                if running is None or running.is_over or not _may_wait():
                    raise
            self.wait_for(operation.id, PAUSE)

    def is_within(self, running: RunningOperation, most: int) -> bool:
        """Tell whether an operation is among the oldest `most`."""
        here = self._here
        return len(here) <= most or running.operation.id in list(here)[:most]

    def drop(self, running: RunningOperation | None) -> None:
        """Forget an operation, if it is there."""
        if running is not None and self._here.get(running.operation.id) is running:
            del self._here[running.operation.id]
            if running._gone is not None:
                running._gone.set()
            if self.at_end is not None:
                self.at_end()

    @property
    def _here(self) -> dict[str, RunningOperation]:
        return self._of.get()


def _may_wait() -> bool:
    """Tell whether this thread is a handler's alone."""
    if threading.current_thread() is threading.main_thread():
        return False
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return False
    is_in_trio = getattr(getattr(trio, "lowlevel", None), "in_trio_run", None)
    return is_in_trio is None or not is_in_trio()


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
