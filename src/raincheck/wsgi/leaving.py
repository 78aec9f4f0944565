"""The end of a process: what still runs is waited for, within bounds.

The threads of handlers are daemons: at the end of the process they would stop in mid-sentence,
without a word in the store. Other threads would be waited for without bounds.
"""

from __future__ import annotations

import time
import weakref
from typing import Protocol

from raincheck.engine.per_process import PerProcess
from raincheck.engine.threads import at_end


class Leaving(Protocol):
    """Something whose handlers may still run."""

    def __len__(self) -> int:
        """Return how many."""
        ...

    def stop(self) -> None:
        """Begin nothing any more that others may do as well."""
        ...

    def drain(self, begin: float) -> None:
        """Wait for them, within bounds that begin then, and record how the rest ended."""
        ...


def _ask_to_drain() -> weakref.WeakSet[Leaving]:
    at_end(drain)
    return weakref.WeakSet()


# A fork inherits what is registered here, but none of the threads.
_WAITED_FOR = PerProcess(_ask_to_drain)


def wait_for(gateway: Leaving) -> None:
    """Have this process's end wait for a gateway's handlers."""
    _WAITED_FOR.get().add(gateway)


def running() -> int:
    """Return how many deferred handlers run in this process."""
    return sum(len(gateway) for gateway in list(_WAITED_FOR.peek() or ()))


def drain() -> None:
    """Wait for all handlers of this process, each gateway within its `drain` option."""
    begin = time.monotonic()
    gateways = list(_WAITED_FOR.peek() or ())
    for gateway in gateways:  # all first: what one of them releases, none here is to take up
        gateway.stop()
    for gateway in gateways:
        gateway.drain(begin)
