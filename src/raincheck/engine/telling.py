"""Telling the workers of a queue that an operation waits for them: by an id, within a deadline.

The store keeps the promise, and not what carries the id: who was told may never hear of it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from raincheck.engine.errands import Errand, Pulse
from raincheck.engine.threads import Threads
from raincheck.errors import WorkersUnavailable
from raincheck.operations.operation import Operation

logger = logging.getLogger("raincheck")

BOUND = 5.0  # seconds that telling may take: a client waits for it
DOUBT = 5.0  # seconds for which who did not answer is left alone

Tell = Callable[[str], object]
_THREADS = Threads(name="raincheck-tell")


class Telling:
    """Tells the workers of each queue, as the option `workers` says.

    Args:
        tells: What is called with an operation's id, by the name of its queue.
    """

    def __init__(self, tells: Mapping[str, Tell]) -> None:
        self._tells = dict(tells)
        self._doubted: dict[str, float] = {}  # until when, by the name of a queue

    @property
    def queues(self) -> frozenset[str]:
        """Those whose workers are told; those of others look into the store themselves."""
        return frozenset(self._tells)

    def tell(self, operation: Operation) -> None:
        """Tell the workers of an operation's queue; who looks for itself need not be told.

        Raises:
            WorkersUnavailable: They could not be told in time.
        """
        queue = operation.queue or ""
        if (tell := self._tells.get(queue)) is None:
            return
        if time.monotonic() < self._doubted.get(queue, 0.0):
            raise WorkersUnavailable(f"the workers of {queue!r} could not be told a moment ago")
        try:
            _tell_in_time(partial(tell, operation.id))
        except Exception as error:
            self._doubted[queue] = time.monotonic() + DOUBT
            raise WorkersUnavailable(f"the workers of {queue!r} can't be told: {error}") from error
        self._doubted.pop(queue, None)


@contextmanager
def in_vain_or_not(operation: Operation) -> Iterator[None]:
    """Tell workers of what was promised: if that fails, they are told again later."""
    try:
        yield
    except WorkersUnavailable as error:
        logger.warning("operation %s waits to be told of: %s", operation.shown, error)


def _tell_in_time(tell: Callable[[], object]) -> None:
    """Tell in a thread of its own, as brokers' clients may hang for ever."""
    pulse = Pulse()

    def note(error: BaseException | None, seconds: float) -> None:
        if error is not None and pulse.is_left:
            logger.warning("workers could not be told, after %.1f s: %s", seconds, error)

    errand = Errand(tell, None, note, pulse)
    errand.begin(_THREADS)
    if not errand.is_over.acquire(timeout=BOUND) and errand.leave():
        raise TimeoutError(f"no answer within {BOUND:g} s")
    errand.result()
