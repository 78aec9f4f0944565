"""The threads that make deliveries: started when there are some, gone when there are none."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from raincheck.engine.per_process import PerProcess
from raincheck.engine.webhooks.shares import Shares
from raincheck.errors import StoreError

logger = logging.getLogger("raincheck")

MOST = 32  # threads of one process: receivers that hang must not keep the others waiting
CLOSING = 2.0  # seconds that closing waits for deliveries; those that take longer are made again

Work = Callable[[Shares, Callable[[], bool]], bool]


class DeliveryThreads:
    """Starts threads in the current process, again after a fork.

    Args:
        work: Does some of what there is to do, as far as the shares allow, until what it is given
            says to stop; returns whether there may be more.
    """

    def __init__(self, work: Work) -> None:
        self._crew = PerProcess(lambda: _Crew(work))

    def call(self) -> None:
        """Have what there is to do done soon."""
        self._crew.get().call()

    def close(self) -> None:
        """Let the threads of this process end; they may be called again."""
        crew = self._crew.take()
        if crew is not None:
            crew.close()


class _Crew:
    def __init__(self, work: Work) -> None:
        self._work = work
        self._shares = Shares(MOST)
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._calls = 0
        self._is_closed = False

    def call(self) -> None:
        with self._lock:
            self._calls += 1
            if self._is_closed or len(self._threads) >= MOST:
                return
            thread = threading.Thread(target=self._run, name="raincheck-webhooks", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                logger.warning("webhooks are told later: %s", error)
                return
            self._threads.add(thread)

    def close(self) -> None:
        end = time.monotonic() + CLOSING
        with self._lock:
            self._is_closed = True
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _run(self) -> None:
        heard = 0
        while self._is_called_after(heard):
            heard = self._calls
            while not self._is_closed and self._has_done_some():
                pass

    def _is_called_after(self, call: int) -> bool:
        """Tell whether there is reason to go on; if not, the next call starts another thread."""
        with self._lock:
            if self._calls > call and not self._is_closed:
                return True
            self._threads.discard(threading.current_thread())
            return False

    def _has_done_some(self) -> bool:
        try:
            return self._work(self._shares, lambda: self._is_closed)
        except StoreError as error:
            logger.warning("webhooks are told later: %s", error)
        except Exception:
            logger.exception("telling webhooks failed unexpectedly and is tried again later")
        return False
