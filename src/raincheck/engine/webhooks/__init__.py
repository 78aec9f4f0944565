"""Webhooks: a URL is told that an operation has ended, at least once, by whatever process is there.

What is still to be told is in the store: the record's `webhook`, and in `lease` the time from which
somebody may try (again). Whoever moves that time on makes the next try, so that no two do at once;
who is killed meanwhile is followed by another. Nothing is opened before the first delivery.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from raincheck.config.webhook_options import check_webhook_url
from raincheck.engine.process import Process
from raincheck.engine.webhooks.delivery_threads import DeliveryThreads
from raincheck.engine.webhooks.guard import Guard, NotSent
from raincheck.engine.webhooks.shares import Shares
from raincheck.errors import ConfigurationError, abbreviate
from raincheck.operations.operation import TERMINAL, Operation
from raincheck.operations.store import Filter
from raincheck.operations.transitions import Delivered, Delivering, advance

if TYPE_CHECKING:
    from raincheck.engine.webhooks.sending import Sender

logger = logging.getLogger("raincheck")
_JITTER = random.SystemRandom()  # not the shared generator, which an application may have seeded

# Seconds from each try to the next, as Standard Webhooks suggest; but never less than a delivery
# and the store may take, or two would be made at once. The last one only guards the last try.
DELAYS = (20.0, 300.0, 1_800.0, 7_200.0, 18_000.0, 36_000.0, 20.0)
SPREAD = 1.2  # up to so many times as much, so that those that failed together do not come together
_BATCH = 16
_LOOKED_AT = 1_000  # that are due, at once
_PAGE = 100  # of those
GONE = 410


class Webhooks:
    """Tells webhooks of the ends of operations.

    Args:
        process: Without a `webhook_secret` in its settings nothing is ever done.
        guard: Says which addresses may be reached; default: what the settings allow.
    """

    def __init__(self, process: Process, *, guard: Guard | None = None) -> None:
        self._store = process.store
        self._repository = process.repository
        self._application = process.application
        self._secret = process.settings.webhook_secret
        self._guard = guard or Guard(process.settings.webhook_networks)
        self._delivery_threads = DeliveryThreads(self._deliver_some)
        self._place: str | None = None  # behind which the next look begins

    def wake(self) -> None:
        """Deliver soon: an operation with a webhook has ended here. Returns at once."""
        if self._secret is not None:
            self._delivery_threads.call()

    def look_for_due(self) -> None:
        """Deliver soon if there is something, whoever it is of; asks the store once.

        Raises:
            StoreError: It can't be asked.
        """
        if self._secret is not None and next(self._due(), None) is not None:
            self._delivery_threads.call()

    def close(self) -> None:
        """Stop after the deliveries that are being made; what is not told yet, others tell."""
        self._delivery_threads.close()

    # --- in the threads ------------------------------------------------------------------------

    def _due(self) -> Iterator[Operation]:
        due = self._repository.find_all(Filter(states=TERMINAL, lease_before=self._store.now()))
        # Others who share the store sign with secrets of their own.
        return (it for it in due if self._application.is_of(it.application))

    def _look_round(self) -> Iterator[Operation]:
        """Yield what is due, as much as is looked at at once, from where the last look has ended.

        So a receiver that has more due than that hides no other.
        """
        which = Filter(states=TERMINAL, lease_before=self._store.now())
        seen, is_round = set[str](), False
        start = at = self._place
        while len(seen) < _LOOKED_AT and not is_round:
            page, at = self._store.find(which, limit=_PAGE, cursor=at)
            own = [it for it in page if self._application.is_of(it.application)]
            fresh = [it for it in own if it.id not in seen]
            seen.update(it.id for it in fresh)
            is_round = len(fresh) < len(own) or (at is None and start is None)
            start = None if at is None else start
            self._place = at
            yield from fresh

    def _find_fitting(self, shares: Shares) -> tuple[list[Operation], bool]:
        """Find some whose receivers have a share left; and whether others were put off."""
        fitting: list[Operation] = []
        has_put_off = False
        for operation in self._look_round():
            if (seconds := shares.put_off(operation)) is not None:
                has_put_off |= self._move_on(operation, seconds, is_try=False) is not None
            elif shares.fits(operation):
                fitting.append(operation)
            if len(fitting) >= _BATCH:
                break
        return fitting, has_put_off

    def _deliver_some(self, shares: Shares, is_closed: Callable[[], bool]) -> bool:
        due, has_done_some = self._find_fitting(shares)
        _JITTER.shuffle(due)  # others look at the same ones now
        if len(due) > 1:
            self._delivery_threads.call()  # one that hangs does not hold up the others
        for operation in due:
            if is_closed():
                return False
            with shares.taken(operation) as is_taken:
                claimed = self._claim(operation) if is_taken else None
                if claimed is not None:
                    has_done_some = True
                    began = time.monotonic()
                    has_answered = self._deliver(claimed)
                    took = time.monotonic() - began
                    shares.note(claimed, took, has_answered=has_answered)
        return has_done_some

    def _claim(self, due: Operation) -> Operation | None:
        """Move the time of the next try on, which only one of several can."""
        return self._move_on(due, DELAYS[min(due.deliveries, len(DELAYS) - 1)])

    def _move_on(self, due: Operation, seconds: float, *, is_try: bool = True) -> Operation | None:
        # The jitter also makes sure that no two write the same record, which to a store is no race.
        event = Delivering(seconds * _JITTER.uniform(1.0, SPREAD), is_try)
        moved = advance(due, event, self._store.now())
        return moved if self._store.swap(due, moved) else None

    def _deliver(self, operation: Operation) -> bool:
        """Try once; tell whether there was an answer, or can't be one."""
        try:
            status = self._post(operation)
        except ConfigurationError as error:  # of a URL that a callable has returned
            self._end(operation, f"{error}; it is given up", logging.ERROR)
        except NotSent as error:
            self._put_off(operation, f"{error}")
            return False
        else:
            if 200 <= status < 300:
                self._end(operation, "it knows", logging.DEBUG)
            elif status == GONE:
                self._end(operation, "it answered 410 and is told no more", logging.WARNING)
            else:
                self._put_off(operation, f"it answered {status}")
        return True

    def _post(self, operation: Operation) -> int:
        from raincheck.engine.webhooks.message import compose, sign  # needs an extra

        url, secret = operation.webhook or "", self._secret or ""
        check_webhook_url(url)
        body = compose(operation)
        return self._sender.post(url, sign(operation, body, secret, datetime.now(UTC)), body)

    def _put_off(self, operation: Operation, failure: str) -> None:
        if operation.deliveries < len(DELAYS):
            _log(operation, f"{failure}; it is tried again later", logging.WARNING)
        else:
            self._end(operation, f"{failure}; it is given up", logging.ERROR)

    def _end(self, operation: Operation, outcome: str, level: int) -> None:
        _log(operation, outcome, level)
        self._repository.change(operation.id, Delivered())

    @cached_property
    def _sender(self) -> Sender:
        from raincheck.engine.webhooks.sending import Sender  # needs an extra

        return Sender(self._guard)


def _log(operation: Operation, outcome: str, level: int) -> None:
    """Say how it went: with the host only, as the rest of a URL may be a credential."""
    try:
        host = urlsplit(operation.webhook or "").hostname
    except ValueError:
        host = None
    logger.log(level, "webhook of %s at %s: %s", abbreviate(operation.id), host or "?", outcome)
