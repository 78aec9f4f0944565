"""What is left to workers is found by them when its client is promised, and no sooner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from raincheck.engine import unsettled
from raincheck.engine.engine import Engine
from raincheck.engine.queues import Take
from raincheck.engine.start import Key
from raincheck.engine.unsettled import SETTLED_SECONDS
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.operations.operation import Operation, State
from tests.unit.engines import (
    DEFECTS,
    FaultyStore,
    Rerunner,
    Time,
    answer,
    lose_one_answer,
    make_engine,
    start,
    stored,
)
from tests.unit.test_queues import DAY, Bell, QueueTests, later, wait_in

KEY = Key("key", "fingerprint")


class TestUnsettled(QueueTests):
    @pytest.fixture
    def another(self, store: FaultyStore, time: Time) -> Iterator[Engine]:
        engine = make_engine(store, time, application="parcels", workers={"workers": print})
        yield engine
        engine.close()

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

    def test_a_process_that_ends_settles_what_is_unsettled(
        self, web: Engine, worker: Engine, store: FaultyStore
    ) -> None:
        promised = self._accept_without_swap(web, store)
        lose_one_answer(store, "create")
        with pytest.raises(StoreUnavailable, match="answer is lost"):
            wait_in(web, "nightly")
        web.close()
        assert worker.queues.take_due(9) == [promised.id]
        states = {o.state for o in store._operations.values() if o.id != promised.id}
        assert states == {State.FAILED}

    def test_a_process_that_ends_does_not_wait_for_what_was_never_recorded(
        self, web: Engine, store: FaultyStore
    ) -> None:
        store.faults = frozenset({"create"})
        with pytest.raises(StoreUnavailable):
            wait_in(web, "nightly")
        store.faults = frozenset()
        naps = list[float]()
        web._sleep = naps.append
        web.close()
        assert web.queues.unsettled
        assert not naps

    def _accept_without_swap(self, web: Engine, store: FaultyStore) -> Operation:
        store.faults = frozenset({"swap"})
        operation = wait_in(web, "nightly")
        store.faults = frozenset()
        return operation

    @pytest.mark.parametrize("queue", ["workers", "nightly"])
    def test_who_comes_again_under_its_key_is_promised_what_was_refused(
        self, web: Engine, another: Engine, worker: Engine, store: FaultyStore, queue: str
    ) -> None:
        lose_one_answer(store, "create")
        with pytest.raises(StoreUnavailable, match="answer is lost"):
            wait_in(web, queue, key=KEY)
        operation = wait_in(another, queue, key=KEY)
        web.recover()
        assert worker.queues.take(operation.id) is Take.BEGUN
        web.recover()
        assert stored(web, operation).state is State.RUNNING
        assert not web.queues.unsettled

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_who_comes_again_is_promised_what_another_process_does_not_know_to_be_its_own(
        self, web: Engine, another: Engine, store: FaultyStore, rerunner: Rerunner, method: str
    ) -> None:
        lose_one_answer(store, "create")
        with pytest.raises(StoreUnavailable, match="answer is lost"):
            start(web, method, key=KEY)
        operation = start(another, method, key=KEY)
        another.recovery.rerunner = rerunner
        web.recover()
        another.recover()
        may_run_again = method == "GET"
        assert len(rerunner.runs) == may_run_again
        ended = stored(web, operation)
        assert ended.state is (State.RUNNING if may_run_again else State.FAILED)
        assert start(another, method, key=KEY).id == operation.id  # it was told, once and for all

    def test_who_comes_again_while_it_ends_is_told_how(
        self, web: Engine, another: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        operation = start(web, "POST", key=KEY)
        create = store.create

        def create_slowly(*arguments: Any) -> Operation:
            found = create(*arguments)
            web.finish(operation, answer(operation))
            return found

        monkeypatch.setattr(store, "create", create_slowly)
        assert start(another, "POST", key=KEY).id == operation.id

    def test_who_comes_again_is_refused_what_is_ended_in_that_moment(
        self, web: Engine, another: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lose_one_answer(store, "create")
        with pytest.raises(StoreUnavailable, match="answer is lost"):
            wait_in(web, key=KEY)
        create = store.create

        def create_late(*arguments: Any) -> Operation:
            found = create(*arguments)
            web.recover()
            return found

        with monkeypatch.context() as patched:
            patched.setattr(store, "create", create_late)
            with pytest.raises(StoreUnavailable, match="was refused"):
                wait_in(another, key=KEY)
        assert wait_in(another, key=KEY).state is State.ACCEPTED

    def test_who_comes_again_is_told_of_what_a_worker_begins_with_in_that_moment(
        self, web: Engine, worker: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        operation, create = wait_in(web, key=KEY), store.create

        def create_slowly(*arguments: Any) -> Operation:
            found = create(*arguments)
            assert worker.queues.take(found.id) is Take.BEGUN
            return found

        monkeypatch.setattr(store, "create", create_slowly)
        assert wait_in(web, key=KEY).id == operation.id

    def test_workers_that_cant_be_told_end_nothing_that_another_request_was_promised(
        self, web: Engine, another: Engine, worker: Engine, bell: Bell
    ) -> None:
        operation: list[Operation] = []

        def fail(_: str) -> None:
            bell.error = None
            operation.append(wait_in(another, key=KEY))
            raise ConnectionError("no broker")

        bell.__dict__["rung"] = SimpleNamespace(append=fail)
        assert wait_in(web, key=KEY).id == operation[0].id
        assert stored(web, operation[0]).state is State.ACCEPTED

    def test_what_was_cancelled_before_it_began_is_told_to_who_comes_again(
        self, web: Engine
    ) -> None:
        operation = wait_in(web, key=KEY)
        web.cancel(operation.id)
        assert wait_in(web, key=KEY).state is State.CANCELLED

    def test_what_the_store_carries_out_late_is_ended_all_the_same(
        self, web: Engine, store: FaultyStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create, get, late = store.create, store.get, list[Any]()

        def lose(*arguments: Any) -> Operation:
            late.append(arguments)
            raise StoreUnavailable("the answer is lost")

        def get_just_before(operation_id: str) -> Operation | None:
            found = get(operation_id)
            if late:
                create(*late.pop())
            return found

        monkeypatch.setattr(store, "create", lose)
        with pytest.raises(StoreUnavailable, match="answer is lost"):
            wait_in(web, "nightly")
        monkeypatch.setattr(store, "get", get_just_before)
        web.recover()
        web.recover()
        assert [o.state for o in store._operations.values()] == [State.FAILED]

    @pytest.mark.parametrize("error", DEFECTS)
    def test_a_promise_is_kept_whatever_the_store_raises_in_that_moment(
        self, web: Engine, worker: Engine, store: FaultyStore, time: Time, error: Exception
    ) -> None:
        def fail(*_: object, **__: object) -> bool:
            raise error

        store.swap = fail  # type: ignore[method-assign]
        operation = wait_in(web, "nightly")
        with suppress(type(error)):
            web.recover()
        assert not web.queues.unsettled  # or nothing else would ever be told again
        del store.swap
        time.now += SETTLED_SECONDS
        assert worker.queues.take_due(9) == [operation.id]

    def test_what_was_refused_and_cant_be_ended_is_left_alone_some_time(
        self, web: Engine, store: FaultyStore, time: Time, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise StoreError("never")

        monkeypatch.setattr(unsettled, "time", SimpleNamespace(monotonic=time))
        lose_one_answer(store, "create")
        with pytest.raises(StoreUnavailable, match="answer is lost"):
            wait_in(web)
        store.get = fail  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(StoreError, match="never"):
                web.recover()
            time.now += SETTLED_SECONDS
        assert not web.queues.unsettled

    @pytest.mark.parametrize("queue", ["workers", "nightly"])
    def test_a_store_that_cant_tell_the_time_then_refuses_nothing_that_is_recorded(
        self, web: Engine, worker: Engine, store: FaultyStore, time: Time, queue: str
    ) -> None:
        create, faults = store.create, frozenset({"now"})

        def create_and_fail(*arguments: Any) -> Operation:
            found = create(*arguments)
            store.faults = faults
            return found

        store.create = create_and_fail  # type: ignore[assignment, method-assign]
        operation = wait_in(web, queue)
        store.faults = frozenset()
        later(time, web, SETTLED_SECONDS)
        assert worker.queues.take(operation.id) is Take.BEGUN

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
