"""What passes while a process is frozen is no evidence against its store."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raincheck.contracts import Store
from raincheck.engine.awake import Deadline
from raincheck.errors import StoreUnavailable
from raincheck.stores.patience import ENOUGH
from raincheck.stores.postgresql.connections import Connections, _until
from raincheck.stores.redis.server import Server, Subscription
from raincheck.stores.redis.url import parse
from raincheck.stores.sqlite import SQLiteStore, database
from tests.stores.failing.backends import AT_MOST, KINDS, Backend, backend_of, in_thread
from tests.stores.failing.calls import use
from tests.support.processes import ROOT

THREADS = 4
FROZEN = ENOUGH + 1.0  # seconds; longer than a timeout of one, and than any further attempt is made
ASKING = f"""
import os, sys, threading, traceback
from itertools import count
from raincheck.stores import open_store
from tests.stores.failing.calls import use

def ask(thread):
    try:
        for n in count():
            use(store, f"{{thread}}-{{n}}")
            os.write(1, b"%d" % thread)
    except BaseException:
        traceback.print_exc()
        os._exit(1)

store = open_store(sys.argv[1])
for thread in range({THREADS}):
    threading.Thread(target=ask, args=(thread,)).start()
"""


@pytest.fixture(params=["sqlite", *KINDS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield f"sqlite://{tmp_path}/operations.db"
        else:
            yield f"{stack.enter_context(backend_of(request.param)).url}?timeout=1"


def read_until_all_have_asked(process: subprocess.Popen[bytes], times: int) -> None:
    """Read what each thread says when it has done something, until each has said so often."""
    assert process.stdout is not None
    said = b""
    while any(said.count(b"%d" % thread) < times for thread in range(THREADS)):
        more = os.read(process.stdout.fileno(), 65536)
        assert more, "it has met a failure, and ended"
        said += more


@pytest.mark.slow
@pytest.mark.server
def test_a_process_that_was_frozen_while_it_asked_its_store_does_not_say_that_it_fails(
    url: str,
) -> None:
    command = [sys.executable, "-c", ASKING, url]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            read_until_all_have_asked(process, 3)
            for _ in range(2):
                process.send_signal(signal.SIGSTOP)
                time.sleep(FROZEN)  # the freeze itself: nothing is waited for
                process.send_signal(signal.SIGCONT)
                in_thread(lambda: read_until_all_have_asked(process, 20)).result(2 * AT_MOST)
        finally:
            process.kill()


# --- with a clock that leaps ------------------------------------------------------------------

Leaping = Callable[[Callable[[], object]], None]


@pytest.fixture
def leaping(monkeypatch: pytest.MonkeyPatch) -> Leaping:
    """Return what has this process seem frozen at its third look at the time, once."""

    def leap(meanwhile: Callable[[], object]) -> None:
        looks = 0

        def monotonic() -> float:
            nonlocal looks
            looks += 1
            if looks == 3:
                meanwhile()
            return looks * 0.01 + (60.0 if looks >= 3 else 0.0)

        leaping = SimpleNamespace(monotonic=monotonic, time=time.time)
        monkeypatch.setattr("raincheck.engine.awake.time", leaping)

    return leap


def test_a_lock_of_sqlite_is_waited_for_as_long_as_before_a_freeze(
    tmp_path: Path, leaping: Leaping
) -> None:
    path = tmp_path / "operations.db"
    with (
        closing(SQLiteStore(path)) as store,
        closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        use(store, "a")
        other.execute("BEGIN IMMEDIATE")
        naps = 0

        def nap(seconds: float) -> None:
            nonlocal naps
            naps += 1
            if naps == 20:
                other.execute("ROLLBACK")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(database, "time", SimpleNamespace(sleep=nap))
            leaping(lambda: None)
            use(store, "b")


def test_an_answer_of_postgresql_that_came_during_a_freeze_counts(leaping: Leaping) -> None:
    leaping(lambda: None)

    def steps() -> Generator[Any, Any, str]:
        for _ in range(5):
            yield 1
        return "answer"

    deadline = Deadline(1.0)
    assert outcome(_until(deadline, steps())) == "answer"


def outcome(steps: Generator[Any, Any, str]) -> str:
    next(steps)
    while True:
        try:
            steps.send(1)
        except StopIteration as end:
            return str(end.value)


def test_who_waits_for_a_connection_to_postgresql_goes_on_after_a_freeze(leaping: Leaping) -> None:
    connections = Connections({}, 1.0, 1)
    connections._take(Deadline(1.0))
    leaping(lambda: connections._give_back(None))
    assert connections._take(Deadline(1.0)) is None


def test_who_waits_for_a_connection_to_redis_goes_on_after_a_freeze(leaping: Leaping) -> None:
    link = Server(parse("redis://localhost?max_connections=1&timeout=1"))._link.get()
    assert link.take_place()
    leaping(link.places.release)
    assert link.take_place()


class Channel:
    """A connection of a subscription, on which the answer to a question comes during a freeze.

    Args:
        answers: Whether it does.
    """

    def __init__(self, *, answers: bool) -> None:
        self.now = 0.0
        self._answers, self._looks, self._arrived = answers, 0, [{"type": "subscribe"}]

    def pubsub(self) -> Channel:
        return self

    def subscribe(self, channel: str) -> None:
        """Be answered at once."""

    def ping(self) -> None:
        self._looks = 1

    def get_message(self, timeout: float) -> dict[str, str] | None:
        if self._arrived:
            return self._arrived.pop()
        self.now += timeout
        if self._looks and self._answers:
            self.now += 60.0
            self._looks, self._arrived = 0, [{"type": "pong"}]
        return None

    def close(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("answers", [True, False])
def test_a_subscription_of_redis_looks_for_the_answer_before_it_says_that_there_is_none(
    monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    channel = Channel(answers=answers)
    clock = SimpleNamespace(monotonic=lambda: channel.now)
    monkeypatch.setattr("raincheck.stores.redis.server.time", clock)
    settings = parse("redis://localhost?timeout=1")
    subscription = Subscription(channel, "changes", settings)  # type: ignore[arg-type]
    with nullcontext() if answers else pytest.raises(StoreUnavailable):
        for _ in range(10):
            assert subscription.hear(1.0) is None


@pytest.mark.server
def test_connections_from_before_the_machine_slept_are_not_used_again(
    backend: Backend, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.get("a")
    accepted = backend.proxy.accepted
    store.get("a")
    assert backend.proxy.accepted == accepted
    slept = SimpleNamespace(monotonic=time.monotonic, time=lambda: time.time() + 3600.0)
    monkeypatch.setattr("raincheck.engine.awake.time", slept)
    store.get("a")
    assert backend.proxy.accepted == accepted + 1
    store.get("a")
    assert backend.proxy.accepted == accepted + 1
