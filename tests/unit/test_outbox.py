"""The backlog by itself: whatever happens in whatever order, exactly the bytes come out."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from tempfile import TemporaryFile
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raincheck.engine import outbox as outbox
from raincheck.engine.outbox import Ending, Outbox
from raincheck.errors import StoreError, StoreUnavailable
from raincheck.operations.operation import Operation, Reason, Result, State
from raincheck.operations.transitions import Ended, Responded

NAMES = ("a", "b", "c")


def operation(name: str) -> Operation:
    return Operation(name, State.RUNNING, 0.0, 0.0, 60.0, "GET", "/", fence=1)


def responded(length: int) -> Responded:
    return Responded(Result(200, (), length, 10, 1))


@dataclass
class Taker:
    """A store that takes what is handed over, or fails when its turn has come."""

    failures: Iterator[bool] = field(default_factory=lambda: iter(()))
    chunks: dict[str, dict[int, bytes]] = field(default_factory=dict)
    endings: dict[str, Ending] = field(default_factory=dict)

    def write(self, operation: Operation, n: int, data: bytes) -> None:
        assert operation.id not in self.endings
        before = self.chunks.setdefault(operation.id, {})
        before[n] = data  # it may be taken, and only the answer be lost
        if next(self.failures, False):
            raise StoreUnavailable("away")

    def record(self, operation: Operation, ending: Ending) -> None:
        if next(self.failures, False):
            raise StoreUnavailable("away")
        assert self.endings.setdefault(operation.id, ending) is ending

    def body(self, name: str) -> bytes:
        chunks = self.chunks.get(name, {})
        assert sorted(chunks) == list(range(len(chunks)))
        return b"".join(chunks[n] for n in range(len(chunks)))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MEMORY", 64)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(NAMES), st.binary(max_size=40)),
        st.tuples(st.just("end"), st.sampled_from(NAMES)),
        st.tuples(st.just("hand over"), st.lists(st.booleans(), max_size=6)),
    ),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(steps=STEPS)
def test_any_order_of_writes_ends_and_failures_gives_exactly_the_bytes(
    steps: list[tuple[str, object]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "MEMORY", 64)
        kept, taker = Outbox(), Taker()
        given_bytes = {name: list[bytes]() for name in NAMES}
        ended = set[str]()
        for what, value in steps:
            if isinstance(value, bytes) and what not in ended:
                kept.keep(operation(what), len(given_bytes[what]), value)
                given_bytes[what].append(value)
            elif isinstance(value, str) and value not in ended:
                ended.add(value)
                kept.end(operation(value), last_words(given_bytes[value]))
            elif isinstance(value, list):
                taker.failures = iter(value)
                with suppress(StoreUnavailable):
                    kept.hand_over(taker.write, taker.record)
            assert kept._spool._memory <= 64
        taker.failures = iter(())
        kept.hand_over(taker.write, taker.record)
        assert {name: taker.body(name) for name in NAMES} == {
            name: b"".join(pieces) for name, pieces in given_bytes.items()
        }
        assert set(taker.endings) == ended
        assert (len(kept), kept._spool._memory, kept._spool._file) == (0, 0, None)


def last_words(pieces: list[bytes]) -> Ending:
    pieces.append(b"last")
    length = sum(len(each) for each in pieces)
    return Ending(responded(length), (len(pieces) - 1, b"last"))


def test_handlers_that_race_with_the_handing_over_lose_nothing_and_hold_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outbox, "MEMORY", 4096)
    kept, most, is_over = Outbox(), [0], threading.Event()
    faults = iter([True, False, False, True, True, False] * 1_000_000)
    taker = Taker(faults)
    names = [str(n) for n in range(200)]

    def handle(mine: list[str]) -> None:
        for name in mine:
            for n in range(20):
                kept.keep(operation(name), n, name.encode() * 40)
                most[0] = max(most[0], kept._spool._memory)
            kept.end(operation(name), Ending(responded(1), (20, b"last")))

    def beat() -> None:
        while not is_over.is_set():
            with suppress(StoreUnavailable):
                kept.hand_over(taker.write, taker.record)

    beating = threading.Thread(target=beat)
    beating.start()
    run_all([partial(handle, names[n::8]) for n in range(8)])
    is_over.set()
    beating.join()
    taker.failures = iter(())
    kept.hand_over(taker.write, taker.record)
    assert {name: taker.body(name) for name in names} == {
        name: name.encode() * 40 * 20 + b"last" for name in names
    }
    assert set(taker.endings) == set(names)
    assert 0 < most[0] <= 4096
    assert (len(kept), kept._spool._memory, kept._spool._file) == (0, 0, None)


def test_a_response_given_up_while_it_is_handed_over_disturbs_no_other(small: None) -> None:
    kept, taker = Outbox(), Taker()
    for n in range(10):
        kept.keep(operation("a"), n, b"%d" % n * 30)
        kept.keep(operation("b"), n, b"%d" % n * 30)

    def write(which: Operation, n: int, data: bytes) -> None:
        if which.id == "a" and n == 4:
            kept.end(operation("a"), Ending(Ended(Reason.SHUTDOWN)))
        taker.write(which, n, data)

    kept.end(operation("b"), Ending(responded(300)))
    kept.hand_over(write, taker.record)
    assert taker.body("b") == b"".join(b"%d" % n * 30 for n in range(10))
    assert taker.endings["a"].event == Ended(Reason.SHUTDOWN)
    assert kept._spool._file is None


def test_a_response_given_up_between_any_two_steps_disturbs_no_other(small: None) -> None:
    """Whenever the lock is let go of, another thread may come."""
    for moment in range(1, 40):
        kept, taker = Outbox(), Taker()
        for n in range(5):
            kept.keep(operation("a"), n, b"a" * 30)
        lock = Interrupted(moment, partial(kept.end, operation("a"), SHUTDOWN))
        kept._lock = lock  # type: ignore[assignment]
        kept.hand_over(taker.write, taker.record)
        kept.hand_over(taker.write, taker.record)
        assert len(kept) == 0
        assert (kept._spool._memory, kept._spool._file) == (0, None)


SHUTDOWN = Ending(Ended(Reason.SHUTDOWN))


class Interrupted:
    """A lock after whose n-th release something else happens."""

    def __init__(self, moment: int, happen: Callable[[], None]) -> None:
        self._lock = threading.RLock()
        self._left = moment
        self._happen = happen

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()
        self._left -= 1
        if self._left == 0:
            self._happen()


def test_what_hangs_and_fails_comes_last_at_the_next_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, taker, tried = Outbox(), Taker(), list[str]()
    now = [0.0]
    monkeypatch.setattr("raincheck.engine.outbox.time", SimpleNamespace(monotonic=lambda: now[0]))
    for name in NAMES:
        kept.end(operation(name), Ending(responded(0)))

    def record(which: Operation, ending: Ending) -> None:
        tried.append(which.id)
        if which.id == "a":
            now[0] += 2 * outbox.TURN
            raise StoreUnavailable("hangs")
        taker.record(which, ending)

    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            kept.hand_over(taker.write, record)
    assert tried == ["a", "b", "c", "a"]
    assert set(taker.endings) == {"b", "c"}


@pytest.mark.parametrize("where", ["first", "later"])
def test_a_disk_that_is_full_costs_one_response_and_leaves_no_file(
    small: None, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    kept, taker = Outbox(pauses=()), Taker()
    opened: list[FullDisk] = []

    def open_full(**options: object) -> FullDisk:
        opened.append(FullDisk(room=10 if where == "first" else 60))
        return opened[-1]

    monkeypatch.setattr("tempfile.TemporaryFile", open_full)
    kept.keep(operation("a"), 0, b"a" * 60)
    if where == "later":
        kept.keep(operation("a"), 1, b"A" * 50)
    with pytest.raises(StoreUnavailable, match="no room"):
        kept.keep(operation("b"), 0, b"b" * 50)
    assert opened[-1].is_closed is (where == "first")
    kept.end(operation("b"), Ending(Ended(Reason.RESPONSE_LOST)))
    kept.end(operation("a"), Ending(responded(60)))
    kept.hand_over(taker.write, taker.record)
    assert taker.body("a") == b"a" * 60 + (b"A" * 50 if where == "later" else b"")
    assert taker.endings["b"].event == Ended(Reason.RESPONSE_LOST)
    assert all(each.is_closed for each in opened)


def test_a_file_that_can_not_be_made_for_a_moment_costs_nothing(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, taker, troubles = Outbox(pauses=(0, 0)), Taker(), [errno.EMFILE, errno.ENOSPC]

    def make(**options: object) -> object:
        if troubles:
            raise OSError(troubles.pop(), "not now")
        return TemporaryFile(buffering=0)

    monkeypatch.setattr("tempfile.TemporaryFile", make)
    kept.keep(operation("a"), 0, b"a" * 200)
    kept.end(operation("a"), Ending(responded(200)))
    kept.hand_over(taker.write, taker.record)
    assert taker.body("a") == b"a" * 200


class FullDisk:
    """A temporary file on a disk that has little room."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._file = TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `close`
        self.seek, self.fileno = self._file.seek, self._file.fileno
        self.is_closed = False

    def write(self, data: memoryview) -> int:
        if not self._room:
            raise OSError(28, "No space left on device")
        taken = self._file.write(data[: self._room])
        self._room -= taken
        return taken

    def close(self) -> None:
        self.is_closed = True
        self._file.close()


def test_a_file_that_was_cut_short_behind_its_back_is_a_loss_and_no_wrong_bytes(
    small: None,
) -> None:
    kept, taker = Outbox(), Taker()
    for n in range(4):
        kept.keep(operation("a"), n, b"a" * 50)
    kept.end(operation("a"), Ending(responded(200)))
    assert kept._spool._file is not None
    os.ftruncate(kept._spool._file.fileno(), 60)
    kept.hand_over(taker.write, taker.record)
    assert taker.endings["a"].event == Ended(Reason.RESPONSE_LOST)


def test_what_came_too_late_for_an_end_is_dropped(small: None) -> None:
    kept, taker = Outbox(), Taker()
    kept.end(operation("a"), Ending(Ended(Reason.SHUTDOWN)))
    kept.keep(operation("a"), 0, b"late")
    kept.hand_over(taker.write, taker.record)
    assert taker.chunks == {}
    assert len(kept) == 0


def test_an_end_that_waited_is_in_doubt(small: None) -> None:
    kept, taker = Outbox(), Taker()
    ending = Ending(responded(0))
    kept.end(operation("a"), ending)
    kept.hand_over(taker.write, taker.record)
    assert taker.endings["a"] == replace(ending, is_doubtful=True)


def test_a_store_that_refuses_even_the_end_is_asked_again(small: None) -> None:
    kept, taker = Outbox(), Taker()
    kept.end(operation("a"), Ending(responded(0)))

    def refuse(which: Operation, ending: Ending) -> None:
        raise StoreError("never")

    for _ in range(3):
        with pytest.raises(StoreError):
            kept.hand_over(taker.write, refuse)
        assert "a" in kept
    kept.hand_over(taker.write, taker.record)
    assert taker.endings["a"].event == Ended(Reason.RESPONSE_LOST)


def run_all(work: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
