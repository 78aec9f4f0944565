"""Webhooks are told at least once, by whoever is there, and rarely more often."""

from __future__ import annotations

import itertools
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from raincheck.config.options import Settings
from raincheck.contracts import Filter, Store
from raincheck.engine.identity import Application
from raincheck.engine.process import Process
from raincheck.engine.webhooks import DELAYS, SPREAD, Webhooks, delivery_threads, sending, shares
from raincheck.engine.webhooks.sending import DEADLINE
from raincheck.errors import StoreUnavailable
from raincheck.operations.operation import Operation, Result, State
from raincheck.operations.transitions import (
    CancelRequested,
    Delivering,
    Forgotten,
    Responded,
    advance,
)
from raincheck.stores.memory import MemoryStore
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing.material import Clock, in_forks, make_operation, run_in_fork
from tests.webhooks.receivers import (
    APPLICATION,
    PATIENCE,
    SECRET,
    Receiver,
    Told,
    ended,
    settings,
)

ID = "0123456789abcdef"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().running() as receiver:
        yield receiver


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, clock: Clock, path: Path) -> Iterator[Store]:
    made = MemoryStore(clock=clock) if request.param == "memory" else SQLiteStore(path, clock=clock)
    with closing(made):
        yield made


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without threads of other tests, and leave none behind on a slow machine."""
    monkeypatch.setattr(delivery_threads, "CLOSING", PATIENCE)
    until(lambda: not threads())


@contextmanager
def webhooks_of(
    store: Store, options: Settings | None = None, application: str = APPLICATION
) -> Iterator[Webhooks]:
    made = Webhooks(Process(options or settings(), store, Application(application)))
    with closing(made):
        yield made


def until(condition: Callable[[], object]) -> None:
    """Wait for something that happens in another thread or process."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.005)


def stored(store: Store, id: str = ID) -> Operation:
    found = store.get(id)
    assert found is not None
    return found


def is_settled(store: Store) -> bool:
    """Whether nobody is to be told anything any more."""
    return not store.find(Filter(lease_before=float("inf")))[0]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "webhooks" in thread.name]


# --- what is told ------------------------------------------------------------------------------


def ends(url: str, now: float) -> dict[State, Operation]:
    running = make_operation(ID, webhook=url, application=APPLICATION)
    accepted = make_operation(ID, webhook=url, application=APPLICATION, state=State.ACCEPTED)
    response = Responded(Result(200, (), 0, 1, 1))
    return {
        State.FAILED: ended(url, now),
        State.SUCCEEDED: advance(running, response, now),
        State.CANCELLED: advance(accepted, CancelRequested(), now),
    }


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED])
def test_a_webhook_is_told_id_and_status_and_nothing_else(
    receiver: Receiver, store: Store, clock: Clock, state: State
) -> None:
    store.create(ends(receiver.url, clock.now)[state])
    with webhooks_of(store) as webhooks:
        webhooks.wake()
        told = receiver.take()
        until(lambda: is_settled(store))
    document = json.loads(told.body)
    moment = datetime.fromisoformat(document.pop("timestamp"))
    assert moment.timestamp() == pytest.approx(clock.now, abs=0.001)
    status = "canceled" if state is State.CANCELLED else state.value
    assert document == {"type": f"operation.{status}", "data": {"id": ID, "status": status}}
    assert told.headers["content-type"] == "application/json"
    assert told.headers["user-agent"].startswith("raincheck/0.")
    assert stored(store).webhook is None
    assert receiver.is_idle


def verify(told: Told, secret: str = SECRET) -> Any:
    return Webhook(secret).verify(told.body, told.headers)


def test_what_is_told_is_signed_as_the_standard_says(
    receiver: Receiver, memory: MemoryStore, clock: Clock
) -> None:
    memory.create(ended(receiver.url, clock.now))
    with webhooks_of(memory) as webhooks:
        webhooks.wake()
        told = receiver.take()
    assert verify(told)["data"]["id"] == ID
    for changed in (
        told._replace(body=told.body.replace(b"failed", b"succeeded")),
        told._replace(headers=told.headers | {"webhook-id": "msg_2"}),
        told._replace(headers=told.headers | {"webhook-timestamp": f"{int(time.time()) + 1}"}),
    ):
        with pytest.raises(Exception, match="signature"):
            verify(changed)


# --- tries -------------------------------------------------------------------------------------


def let_finish(webhooks: Webhooks) -> None:
    """Wait until what is being delivered has been."""
    until(lambda: not threads())
    webhooks.close()


@pytest.mark.parametrize("status", [500, 503, 404, 301, 307, 399])
def test_another_status_than_success_is_tried_again(
    receiver: Receiver, store: Store, clock: Clock, status: int
) -> None:
    receiver.statuses = [status, 200]
    store.create(ended(receiver.url, clock.now))
    with webhooks_of(store) as webhooks:
        webhooks.wake()
        first = receiver.take()
        let_finish(webhooks)
        clock.now += DELAYS[0] * SPREAD
        webhooks.look_for_due()
        again = receiver.take()
        until(lambda: is_settled(store))
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert ID not in first.headers["webhook-id"]
    assert (first.body, first.path) == (again.body, again.path)
    verify(again)


def test_tries_are_further_and_further_apart_until_it_is_given_up(
    receiver: Receiver, memory: MemoryStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [500]
    memory.create(ended(receiver.url, clock.now))
    with webhooks_of(memory) as webhooks:
        for delay in DELAYS:
            assert "given up" not in caplog.text
            webhooks.look_for_due()
            receiver.take()
            let_finish(webhooks)
            webhooks.look_for_due()
            clock.now += delay - 1
            webhooks.look_for_due()
            let_finish(webhooks)
            assert receiver.is_idle
            clock.now += 1 + delay * (SPREAD - 1)
    assert is_settled(memory)
    last = [it for it in caplog.records if it.threadName == "raincheck-webhooks"][-1]
    assert last.levelno == logging.ERROR
    assert last.getMessage() == ("webhook of 012345… at 127.0.0.1: it answered 500; it is given up")
    assert "t0k3n" not in caplog.text
    assert ID not in caplog.text


def test_nobody_tells_of_the_operations_of_another_application(
    receiver: Receiver, store: Store, clock: Clock
) -> None:
    for number in range(20):  # more than are looked at at once
        store.create(ended(receiver.url, clock.now, f"theirs{number}", application="another"))
    store.create(ended(receiver.url, clock.now))
    with webhooks_of(store) as webhooks:
        webhooks.look_for_due()
        receiver.take()
        until(lambda: stored(store).webhook is None)
    assert receiver.is_idle
    assert stored(store, "theirs0").deliveries == 0


def test_nobody_tries_again_while_a_delivery_may_still_be_made() -> None:
    assert min(DELAYS) >= DEADLINE + 5  # what the store may take


def test_a_receiver_that_is_gone_is_told_no_more(
    receiver: Receiver, memory: MemoryStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.statuses = [410]
    memory.create(ended(receiver.url, clock.now))
    with webhooks_of(memory) as webhooks:
        webhooks.wake()
        until(lambda: is_settled(memory))
    assert "is told no more" in caplog.text


@pytest.mark.parametrize(
    "url", ["", "ftp://example.org/t0k3n", "http://[t0k3n", "http://u:t0k3n@x"]
)
def test_a_url_of_a_callable_that_is_none_is_given_up(
    memory: MemoryStore, clock: Clock, caplog: pytest.LogCaptureFixture, url: str
) -> None:
    memory.create(ended(url, clock.now))
    with webhooks_of(memory) as webhooks:
        webhooks.wake()
        until(lambda: is_settled(memory))
    assert "given up" in caplog.text
    assert "t0k3n" not in caplog.text


def test_by_default_nobody_on_this_machine_is_told(
    receiver: Receiver, memory: MemoryStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    memory.create(ended(receiver.url, clock.now))
    with webhooks_of(memory, settings(webhook_networks=())) as webhooks:
        webhooks.wake()
        until(lambda: "127.0.0.1 is not public: allow it with webhook_networks" in caplog.text)
    assert receiver.connections == 0
    assert stored(memory).deliveries == 1


def test_what_is_forgotten_is_told_nobody(receiver: Receiver, store: Store, clock: Clock) -> None:
    store.create(advance(ended(receiver.url, clock.now), Forgotten(60), clock.now))
    with webhooks_of(store) as webhooks:
        webhooks.look_for_due()
        webhooks.wake()
        let_finish(webhooks)
    assert receiver.connections == 0


# --- several at once ---------------------------------------------------------------------------


class Meeting(MemoryStore):
    """Lets the first two who look for something find the same."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._looks = itertools.count()
        self._barrier = threading.Barrier(2)

    def find(self, *args: Any, **options: Any) -> tuple[list[Operation], str | None]:
        found = super().find(*args, **options)
        if next(self._looks) < 2:
            self._barrier.wait(PATIENCE)
        return found


def test_of_two_who_race_at_the_same_moment_one_delivers(receiver: Receiver, clock: Clock) -> None:
    store = Meeting(clock)
    ids = {f"{n:016}" for n in range(10)}
    for id in ids:
        store.create(ended(receiver.url, clock.now, id))
    with webhooks_of(store) as one, webhooks_of(store) as other:
        one.wake()
        other.wake()
        told = [json.loads(receiver.take().body)["data"]["id"] for _ in ids]
        until(lambda: is_settled(store))
    assert set(told) == ids
    assert receiver.is_idle


@pytest.mark.server
def test_several_processes_tell_each_webhook_once(receiver: Receiver, path: Path) -> None:
    ids = {f"{n:016}" for n in range(40)}
    with closing(SQLiteStore(path)) as store:
        for id in ids:
            store.create(ended(receiver.url, store.now(), id))

    def deliver(_: int) -> int:
        with closing(SQLiteStore(path)) as store, webhooks_of(store) as webhooks:
            webhooks.look_for_due()
            until(lambda: is_settled(store))
        return 0

    assert in_forks(4, deliver) == [0, 0, 0, 0]
    told = [json.loads(receiver.take().body)["data"]["id"] for _ in ids]
    assert set(told) == ids
    assert receiver.is_idle


@pytest.mark.server
def test_what_a_killed_process_was_telling_is_told_by_another(
    receiver: Receiver, path: Path, clock: Clock
) -> None:
    receiver.is_answering.clear()
    with closing(SQLiteStore(path, clock=clock)) as store:
        store.create(ended(receiver.url, clock.now))
    if (pid := os.fork()) == 0:
        with closing(SQLiteStore(path, clock=clock)) as store, webhooks_of(store) as webhooks:
            webhooks.wake()
            signal.pause()
        os._exit(1)
    first = receiver.take()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    receiver.is_answering.set()
    with closing(SQLiteStore(path, clock=clock)) as store, webhooks_of(store) as webhooks:
        webhooks.look_for_due()
        let_finish(webhooks)
        assert receiver.is_idle  # it might still live
        clock.now += DELAYS[0] * SPREAD
        webhooks.look_for_due()
        again = receiver.take()
        until(lambda: is_settled(store))
    assert first.headers["webhook-id"] == again.headers["webhook-id"]


def test_what_nobody_is_telling_any_more_is_told_by_another(
    receiver: Receiver, store: Store, clock: Clock
) -> None:
    lost = advance(ended(receiver.url, clock.now), Delivering(30.0), clock.now)
    store.create(lost)
    with webhooks_of(store) as webhooks:
        webhooks.look_for_due()
        webhooks.wake()
        let_finish(webhooks)
        assert receiver.is_idle
        clock.now += 30.0
        webhooks.look_for_due()
        receiver.take()
        until(lambda: is_settled(store))


def test_a_receiver_that_hangs_holds_up_no_other(
    receiver: Receiver, memory: MemoryStore, clock: Clock
) -> None:
    with Receiver().running() as hanging:
        hanging.is_answering.clear()
        for n in range(4):
            memory.create(ended(hanging.url, clock.now, f"hanging{n:09}"))
        for n in range(4):
            memory.create(ended(receiver.url, clock.now, f"{n:016}"))
        with webhooks_of(memory) as webhooks:
            webhooks.look_for_due()
            assert len({receiver.take().body for _ in range(4)}) == 4
            hanging.is_answering.set()


def test_many_that_hang_at_one_receiver_hold_up_no_other(
    receiver: Receiver, memory: MemoryStore, clock: Clock
) -> None:
    with Receiver().running() as hanging:
        hanging.is_answering.clear()
        for n in range(60):
            memory.create(ended(hanging.url, clock.now, f"hanging{n:09}"))
        with webhooks_of(memory) as webhooks:
            webhooks.look_for_due()
            hanging.take()
            memory.create(ended(receiver.url, clock.now))
            webhooks.wake()
            until(lambda: stored(memory).webhook is None)
            assert len(threads()) <= delivery_threads.MOST / 2
            hanging.is_answering.set()


def test_more_than_is_looked_at_at_once_holds_up_nobody_behind(
    receiver: Receiver, memory: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raincheck.engine.webhooks._LOOKED_AT", 30)
    monkeypatch.setattr("raincheck.engine.webhooks._PAGE", 10)
    with Receiver().running() as hanging:
        hanging.is_answering.clear()
        for n in range(100):
            memory.create(ended(hanging.url, clock.now, f"hanging{n:09}"))
        memory.create(ended(receiver.url, clock.now, "z" * 16))
        with webhooks_of(memory) as webhooks:

            def is_told() -> bool:
                webhooks.look_for_due()
                return stored(memory, "z" * 16).webhook is None

            until(is_told)
            left, _ = memory.find(Filter(lease_before=clock.now), limit=200)
            assert (
                len(left) >= 100 - delivery_threads.MOST / 4
            )  # nobody waited until they were put off
            hanging.is_answering.set()


def test_what_is_put_off_is_told_later_and_was_no_try(
    receiver: Receiver, memory: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "SLOW", 0.0)  # whoever does not answer
    receiver.is_answering.clear()
    ids = [f"{n:016}" for n in range(20)]
    for id in ids:
        memory.create(ended(receiver.url, clock.now, id))
    with closing(Webhooks(Process(settings(), memory, Application(APPLICATION)))) as webhooks:
        webhooks._sender = sending.Sender(webhooks._guard, deadline=0.2)
        webhooks.look_for_due()
        until(lambda: not memory.find(Filter(lease_before=clock.now))[0])
        let_finish(webhooks)
        tries = [stored(memory, id).deliveries for id in ids]
        assert 0 in tries
        assert 1 in tries
        receiver.is_answering.set()

        def is_told_later() -> bool:
            clock.now += SPREAD * shares.PUT_OFF[-1]
            webhooks.look_for_due()
            let_finish(webhooks)
            return is_settled(memory)

        until(is_told_later)


# --- threads -----------------------------------------------------------------------------------


class Unasked(MemoryStore):
    """A store that nobody may look at."""

    def find(self, *args: Any, **options: Any) -> tuple[list[Operation], str | None]:
        raise AssertionError("it was asked")


def test_a_process_without_a_secret_does_nothing() -> None:
    with webhooks_of(Unasked(), Settings()) as webhooks:
        webhooks.look_for_due()
        webhooks.wake()
        assert threads() == []


def test_no_thread_is_there_before_and_after(
    receiver: Receiver, memory: MemoryStore, clock: Clock
) -> None:
    with webhooks_of(memory) as webhooks:
        webhooks.look_for_due()
        assert threads() == []
        memory.create(ended(receiver.url, clock.now))
        receiver.is_answering.clear()
        webhooks.wake()
        receiver.take()
        assert threads() == ["raincheck-webhooks"]
        receiver.is_answering.set()
        until(lambda: not threads())
    assert is_settled(memory)


@pytest.mark.server
def test_a_forked_process_delivers_by_itself(
    receiver: Receiver, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_threads, "MOST", 1)
    with (
        Receiver().running() as hanging,
        closing(SQLiteStore(path)) as store,
        webhooks_of(store) as webhooks,
    ):
        hanging.is_answering.clear()
        store.create(ended(hanging.url, store.now()))
        webhooks.wake()
        hanging.take()

        def deliver() -> None:
            store.create(ended(receiver.url, store.now(), "of the fork"))
            webhooks.wake()
            until(lambda: stored(store, "of the fork").webhook is None)
            webhooks.close()
            store.close()

        assert run_in_fork(deliver)
        hanging.is_answering.set()
    assert b"of the fork" in receiver.take().body


def test_there_are_never_more_threads_than_a_few(
    receiver: Receiver, memory: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_threads, "MOST", 2)
    receiver.is_answering.clear()
    for n in range(4):
        memory.create(ended(receiver.url, clock.now, f"{n:016}"))
    with webhooks_of(memory) as webhooks:
        for _ in range(4):
            webhooks.wake()
        first = {receiver.take().body for _ in range(2)}
        assert len(threads()) == 2
        receiver.is_answering.set()
        assert len(first | {receiver.take().body for _ in range(2)}) == 4
        until(lambda: is_settled(memory))


def test_closing_waits_for_what_is_being_told(
    receiver: Receiver, memory: MemoryStore, clock: Clock
) -> None:
    receiver.is_answering.clear()
    memory.create(ended(receiver.url, clock.now))
    with webhooks_of(memory) as webhooks:
        webhooks.wake()
        receiver.take()
        threading.Timer(0.1, receiver.is_answering.set).start()
    assert is_settled(memory)
    assert threads() == []


def test_closing_does_not_wait_for_ever(
    receiver: Receiver, memory: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery_threads, "CLOSING", 0.05)
    receiver.is_answering.clear()
    memory.create(ended(receiver.url, clock.now))
    with webhooks_of(memory) as webhooks:
        webhooks.wake()
        receiver.take()
        begun = time.monotonic()
    assert time.monotonic() - begun < DEADLINE
    assert stored(memory).webhook is not None
    receiver.is_answering.set()
    until(lambda: not threads())


class Failing(MemoryStore):
    """Fails the next time it is looked at."""

    failure: Exception | None = None

    def find(self, *args: Any, **options: Any) -> tuple[list[Operation], str | None]:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return super().find(*args, **options)


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (StoreUnavailable("the disk is full"), "disk is full"),
        (KeyError("x"), "failed unexpectedly"),
    ],
)
def test_after_a_failure_it_goes_on_when_the_next_one_looks(
    receiver: Receiver, clock: Clock, caplog: pytest.LogCaptureFixture, failure: Any, said: str
) -> None:
    store = Failing(clock=clock)
    store.create(ended(receiver.url, clock.now))
    store.failure = failure
    with webhooks_of(store) as webhooks:
        webhooks.wake()
        until(lambda: said in caplog.text)
        webhooks.look_for_due()
        receiver.take()
        until(lambda: is_settled(store))


def test_where_there_may_be_no_more_threads_it_is_told_later(
    receiver: Receiver, memory: MemoryStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    memory.create(ended(receiver.url, clock.now))
    with webhooks_of(memory) as webhooks:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            webhooks.wake()
        webhooks.look_for_due()
        receiver.take()
        until(lambda: is_settled(memory))
