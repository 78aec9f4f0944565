"""What a machine has run out of for a moment is told as that, and never as something gone."""

from __future__ import annotations

import gc
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from raincheck.errors import BodyMissing, StoreUnavailable
from raincheck.operations.operation import State
from raincheck.stores.default import _choose_path
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing.material import MIB, make_operation
from tests.stores.test_unreadable import make_engine
from tests.support.asgi import call, engine_of, follow, path_of
from tests.support.handlers import answer, wrap
from tests.unit.engines import Rerunner, body, lost, poll, start
from tests.unit.engines import answer as response_of


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing more."""
    gc.collect()  # or the collector might close something meanwhile
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open("/", os.O_RDONLY)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operations.db"


def test_a_body_is_not_missing_while_there_are_no_descriptors(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        store.create(make_operation())
        store.write_chunk("a", 1, 0, b"x" * MIB)
        with no_descriptors(), pytest.raises(StoreUnavailable):
            list(store.read_chunks("a", 1, 0, 1))
        assert list(store.read_chunks("a", 1, 0, 1)) == [b"x" * MIB]
        with pytest.raises(BodyMissing):
            list(store.read_chunks("a", 2, 0, 1))


def test_a_request_is_run_again_when_there_are_descriptors(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        engine, other, rerunner = make_engine(store), make_engine(store), Rerunner()
        operation = lost(engine, start(engine, "GET"))
        other.recovery.rerunner = rerunner
        with no_descriptors(), pytest.raises(StoreUnavailable):
            other.recover()
        left = store.get(operation.id)
        assert left is not None
        assert (left.state, left.reason) == (State.ACCEPTED, None)
        other.recover()
        ((again, _, _),) = rerunner.runs
        other.finish(again, response_of(again))
        assert body(other, poll(other, operation.id)) == b"done"


def test_a_store_that_can_not_be_opened_for_a_moment_is_unavailable(path: Path) -> None:
    with closing(SQLiteStore(path)) as store:
        with no_descriptors():
            for use in (lambda: store.get("a"), store.incarnation):
                with pytest.raises(StoreUnavailable):
                    use()
        assert store.get("a") is None


def test_memory_that_runs_out_makes_a_store_unavailable(path: Path) -> None:
    def work(connection: object) -> None:
        raise MemoryError

    with closing(SQLiteStore(path)) as store, pytest.raises(StoreUnavailable):
        store._database.write(work)


def test_a_full_disk_makes_no_process_choose_another_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", fail)
    with pytest.raises(OSError, match="No space left"):
        _choose_path()


@pytest.mark.anyio
async def test_a_poll_is_answered_while_there_are_no_threads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, b"x" * MIB)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    wrapped = wrap(app, budget=0, store=f"sqlite://{path}")
    accepted = await call(wrapped)
    assert len((await follow(wrapped, accepted)).content) == MIB
    engine_of(wrapped).heartbeat.stop()
    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", fail)
        polled = await call(wrapped, path_of(accepted))
    assert polled.status in (200, 503)
    assert len((await follow(wrapped, accepted)).content) == MIB
    engine_of(wrapped).close()
