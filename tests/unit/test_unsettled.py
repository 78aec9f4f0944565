"""What is left to workers is found by them when its client is promised, and no sooner."""

from __future__ import annotations

import pytest

from raincheck.engine.engine import Engine
from raincheck.engine.queues import Take
from raincheck.engine.unsettled import SETTLED_SECONDS
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import Operation, State
from tests.unit.engines import FaultyStore, Rerunner, Time, lose_one_answer, start, stored
from tests.unit.test_queues import DAY, QueueTests, wait_in


class TestUnsettled(QueueTests):
    def test_workers_that_look_find_what_was_accepted_at_once(
        self, web: Engine, worker: Engine, rerunner: Rerunner
    ) -> None:
        operation = wait_in(web, "nightly")
        assert worker.queues.take_due(9) == [operation.id]
        assert len(rerunner.runs) == 1

    def test_no_worker_begins_what_its_client_was_refused(
        self, web: Engine, worker: Engine, rerunner: Rerunner, store: FaultyStore, time: Time
    ) -> None:
        lose_one_answer(store, "create")
        with pytest.raises(StoreUnavailable, match="answer is lost"):
            wait_in(web, "nightly")
        assert worker.queues.take_due(9) == []  # sooner than who has refused it knows of it
        web.recover()
        time.now += 2 * SETTLED_SECONDS
        assert worker.queues.take_due(9) == []
        assert not rerunner.runs
        assert [o.state for o in store._operations.values()] == [State.FAILED]

    def test_a_promise_is_kept_though_the_store_fails_in_that_moment(
        self, web: Engine, worker: Engine, store: FaultyStore
    ) -> None:
        operation = self._accept_without_swap(web, store)
        assert worker.queues.take_due(9) == []
        web.recover()
        assert worker.queues.take_due(9) == [operation.id]
        web.recover()
        assert stored(web, operation).state is State.RUNNING

    def test_it_is_kept_though_its_process_is_killed_in_that_moment(
        self, web: Engine, worker: Engine, store: FaultyStore, time: Time
    ) -> None:
        operation = self._accept_without_swap(web, store)
        time.now += SETTLED_SECONDS
        assert worker.queues.take_due(9) == [operation.id]

    def _accept_without_swap(self, web: Engine, store: FaultyStore) -> Operation:
        store.faults = frozenset({"swap"})
        operation = wait_in(web, "nightly")
        store.faults = frozenset()
        return operation

    @pytest.mark.parametrize("seconds", [SETTLED_SECONDS / 2, DAY])
    def test_what_is_for_later_is_found_then(
        self, web: Engine, worker: Engine, time: Time, seconds: float
    ) -> None:
        operation = wait_in(web, "nightly", not_before=time.now + seconds)
        time.now += seconds - 1
        assert worker.queues.take_due(9) == []
        time.now += 1
        assert worker.queues.take_due(9) == [operation.id]

    def test_what_was_handed_over_is_left_though_the_answer_was_lost(
        self, web: Engine, worker: Engine, store: FaultyStore
    ) -> None:
        operation = start(web, "GET")
        lose_one_answer(store, "swap")
        with pytest.raises(StoreUnavailable):
            web.queues.hand_over(operation, "workers", None)
        assert worker.queues.take(operation.id) is Take.BEGUN
        again = web.queues.hand_over(operation, "workers", None)
        assert again is not None
        assert again.fence == operation.fence + 1
