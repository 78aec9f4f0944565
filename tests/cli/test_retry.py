"""`raincheck retry`: what waits in a queue may be begun now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raincheck.operations.operation import State
from raincheck.operations.store import Store
from tests.cli.conftest import Commands, keep

FAR = 4_000_000_000.0  # seconds since the epoch


def test_what_waits_in_a_queue_may_be_begun_before_its_time(
    store: Store, raincheck: Commands
) -> None:
    waiting = keep(store, "waiting-1", State.ACCEPTED)
    changes: dict[str, Any] = {
        "queue": "nightly",
        "lease": FAR,
        "not_before": FAR,
        "version": waiting.version + 1,
    }
    assert store.swap(waiting, replace(waiting, **changes))
    said = raincheck("retry", "wait")
    assert (said.status, said.err) == (0, "")
    assert said.out == "waiting-  may be begun: the workers of nightly are told within seconds\n"
    stored = store.get("waiting-1")
    assert stored is not None
    assert (stored.state, stored.not_before, stored.queue) == (State.ACCEPTED, None, "nightly")
    assert stored.lease is not None
    assert stored.lease <= store.now()


def test_of_what_waits_in_no_queue_or_has_ended_retry_says_so(
    store: Store, raincheck: Commands
) -> None:
    keep(store, "here-----1", State.ACCEPTED)
    keep(store, "failed---1", State.FAILED)
    said = raincheck("retry", "here-----1", "failed---1")
    assert said.out.splitlines() == [
        "here----  waits in no queue: accepted",
        "failed--  has ended (failed), and stays so: its client may send the request again",
    ]
