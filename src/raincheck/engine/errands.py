"""What is asked of the store for a client that waits: it is told in time, whatever the store does.

Each errand has a thread of its own, so that whoever waits for it can go on without; or it is run by
the thread that needs it, and an overseer goes on without that thread. While one is overdue, no
other is begun, but for one now and then that finds out whether the store is back. So a store that
hangs costs a few threads, and each client a second or two at most.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from raincheck.engine.awake import Deadline
from raincheck.engine.per_process import PerProcess
from raincheck.engine.threads import Threads
from raincheck.errors import StoreError, StoreUnavailable

logger = logging.getLogger("raincheck")

BOUND = 1.2  # seconds that a client waits for a sign of life
DOUBT = 5.0  # seconds until another client finds out what keeps an errand
PAUSE = 0.5  # the same after an errand has failed
QUICK = 0.1  # seconds within which a failure costs nobody anything

_THREADS = Threads(
    name="raincheck-store"
)  # of the process: a middleware that is dropped leaves none behind

_HERE = threading.local()  # whose `overseer` looks after this thread, if anybody does

_T = TypeVar("_T")


class Overseer(Protocol):
    """Looks after a thread from outside, and leaves its errand when that is overdue."""

    errand: Errand[Any] | None


class Left(BaseException):
    """Unwinds a thread for whose errand nobody waits any more; no error that anybody handles."""


def work_under(overseer: Overseer | None) -> None:
    """Have somebody look after this thread from now on; None: nobody does any more."""
    _HERE.overseer = overseer


class Pulse:
    """What an errand and whoever waits for it know of each other.

    Attributes:
        beats: How often the store has answered within it: it may be long.
        is_left: Whether nobody waits for it any more.
    """

    def __init__(self) -> None:
        self.beats = 0
        self.is_left = False

    def beat(self) -> None:
        """Take note of an answer."""
        self.beats += 1


class Errands:
    """Runs errands of one kind, as far as the store seems to be there; each process for itself."""

    def __init__(self) -> None:
        self._lock_of = PerProcess(threading.Lock)  # a fork may inherit one locked
        self._refused: dict[int, float] = {}  # until when, by process; none: nothing is overdue

    def run(
        self,
        work: Callable[[], _T],
        *,
        late: Callable[[_T], object] | None = None,
        left: Callable[[bool], object] | None = None,
        pulse: Pulse | None = None,
        may_be_slow: bool = False,
    ) -> _T:
        """Return what `work` returns, if the store answers in time.

        Args:
            late: Given what `work` returns after nobody has waited for it any more.
            left: Called when nobody waits for it any more, with whether it is overdue. Who gives
                it is not told by an exception: where somebody oversees this thread, `work` is
                done right here.
            pulse: Beats at each answer within it: the wait begins anew.
            may_be_slow: Whether it may take its time though the store is there.

        Raises:
            StoreUnavailable: The store does not answer, or has failed.
            Left: This thread has been left, and whoever oversees it goes on without.
        """
        is_probe = self._is_refusing
        if not self._may_begin():
            raise StoreUnavailable("the store does not answer: it is left alone for a while")
        errand = Errand(work, late, partial(self.note, is_probe=is_probe), pulse or Pulse())
        errand.left = partial(self._note_left, left, may_be_slow)
        overseer = getattr(_HERE, "overseer", None)
        if left is not None and overseer is not None:
            return errand.run_under(overseer)
        errand.begin(_THREADS)
        if not errand.comes_in_time() and errand.leave(is_overdue=True):
            raise overdue()
        return errand.result()

    def _note_left(
        self, left: Callable[[bool], object] | None, may_be_slow: bool, is_overdue: bool
    ) -> None:
        if is_overdue and not may_be_slow:
            self._refuse_for(DOUBT)
        if left is not None:
            left(is_overdue)

    # --- whether another one is begun ----------------------------------------------------------

    @property
    def _is_refusing(self) -> bool:
        return os.getpid() in self._refused

    def _may_begin(self) -> bool:
        if not self._is_refusing:
            return True
        pid = os.getpid()
        with self._lock:
            if time.monotonic() < self._refused.get(pid, 0.0):
                return False
            self._refuse_for(DOUBT)  # this one finds out
            return True

    def note(self, error: BaseException | None, seconds: float, *, is_probe: bool = False) -> None:
        """Take note of what an errand has met, and after how long.

        Args:
            is_probe: Whether it was to find out whether the store is back.
        """
        if _says_of_store(error):
            if _is_away(error):
                if seconds > QUICK or self._is_refusing:
                    self._refuse_for(PAUSE)
            else:
                self._refused.pop(os.getpid(), None)
        elif is_probe and self._is_refusing:  # it has not found out: the next one does
            self._refuse_for(0)

    def _refuse_for(self, seconds: float) -> None:
        self._refused[os.getpid()] = time.monotonic() + seconds

    @property
    def _lock(self) -> threading.Lock:
        return self._lock_of.get()


def overdue() -> StoreUnavailable:
    """Return what somebody is told who has waited for long enough."""
    return StoreUnavailable(f"the store has not answered within {BOUND:g} s")


class Errand(Generic[_T]):
    """One that somebody waits for, who may leave before it is over.

    Args:
        work: What is to be done.
        late: Given what `work` returns after nobody has waited for it any more.
        note: Given what it has met, and after how many seconds.

    Attributes:
        left: Called when nobody waits for it any more, with whether it is overdue.
    """

    def __init__(
        self,
        work: Callable[[], _T],
        late: Callable[[_T], object] | None,
        note: Callable[[BaseException | None, float], None],
        pulse: Pulse,
    ) -> None:
        self.is_over = threading.Lock()  # until then held: an event costs three times as much
        self.is_over.acquire()
        self.has_come = False
        self.left: Callable[[bool], object] | None = None
        self._work = work
        self._late = late
        self._note = note
        self._found: list[_T] = []
        self._error: BaseException | None = None
        self._pulse = pulse
        self._beats, self._deadline = pulse.beats, Deadline(BOUND)
        self._lock = threading.Lock()

    def begin(self, threads: Threads) -> None:
        """Have it done in a thread of its own, in the context of now."""
        try:
            threads.run(partial(copy_context().run, self._run))
        except RuntimeError:  # the system allows no more threads
            self._run()

    def run_under(self, overseer: Overseer) -> _T:
        """Have it done in this thread, which somebody else waits for.

        Raises:
            Left: Nobody does any more.
        """
        overseer.errand = self
        self._run()
        overseer.errand = None
        if self._pulse.is_left:
            raise Left
        return self.result()

    @property
    def patience(self) -> float:
        """Seconds until the next look at whether it is overdue; 0: it is."""
        if self._pulse.beats != self._beats:
            self._beats, self._deadline = self._pulse.beats, Deadline(BOUND)
        return self._deadline.step

    def comes_in_time(self) -> bool:
        """Wait for it as long as anybody may."""
        try:
            while step := self.patience:
                if self.is_over.acquire(timeout=step):
                    return True
            return False
        except BaseException:  # the server wants to stop this very thread
            self.leave()
            raise

    def _run(self) -> None:
        begun = time.monotonic()
        try:
            self._found.append(self._work())
        except BaseException as error:
            self._error = error
        self._note(self._error, time.monotonic() - begun)
        with self._lock:
            self.has_come = True
            self.is_over.release()
            is_late = self._pulse.is_left
        if is_late:
            self._end_late()

    def _end_late(self) -> None:
        try:
            if self._found and self._late is not None:
                self._late(self._found[0])
        except Exception as error:
            logger.warning("what came too late could not be taken back: %s", error)

    def leave(self, *, is_overdue: bool = False) -> bool:
        """Wait no longer; False if it is over after all."""
        with self._lock:
            is_left = self._pulse.is_left = not self.has_come
        if is_left and self.left is not None:
            self.left(is_overdue)
        return is_left

    def result(self) -> _T:
        """Return what came of it, or raise what it has met."""
        if self._error is None:
            return self._found[0]
        try:
            raise self._error
        finally:
            self._error = None  # or its traceback would keep this object alive


def _says_of_store(error: BaseException | None) -> bool:
    """Tell whether an end says anything of the store: a limit, or a mistake of others, does not."""
    return error is None or isinstance(error, StoreError | OSError)


def _is_away(error: BaseException | None) -> bool:
    return isinstance(error, StoreUnavailable | OSError)
