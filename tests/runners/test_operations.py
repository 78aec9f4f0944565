"""Operations that a program finishes which is no handler."""

from __future__ import annotations

import time
from typing import Any

import pytest

from raincheck import ConfigurationError, OperationCancelled
from raincheck.contracts import Filter
from raincheck.engine.queues import Take, queues_here
from raincheck.operations.operation import Reason, State
from raincheck.runners.operations import Operations, Work
from raincheck.runners.worker import Worker
from raincheck.stores.memory import MemoryStore
from tests.support.wsgi import call, engine_of, path_of, until, wrap

BODY = b'{"month": 11}'


def never(environ: Any, start_response: Any) -> list[bytes]:
    raise AssertionError("the application was called")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def web(store: MemoryStore) -> Any:
    runners = {"/**": "nightly"}
    return wrap(never, store=store, runners=runners, application="shop", retry={"/again": True})


@pytest.fixture
def operations(store: MemoryStore) -> Any:
    operations = Operations(store, application="shop")
    yield operations
    operations.close()


def claimed(operations: Operations) -> Work:
    work = operations.claim("nightly")
    assert work is not None
    return work


def asked(web: Any, path: str = "/reports") -> str:
    accepted = call(web, path, "POST", [(b"x-own", b"1")], BODY)
    assert accepted.status == 202
    return path_of(accepted)


def test_a_program_completes_what_was_only_accepted(web: Any, operations: Operations) -> None:
    path = asked(web)
    assert operations.claim("others") is None
    with claimed(operations) as work:
        assert (work.request.method, work.request.path) == ("POST", "/reports")
        assert (work.body.read(), work.attempt, path.endswith(work.id)) == (BODY, 1, True)
        assert (b"x-own", b"1") in work.request.headers
        assert operations.claim("nightly") is None
        work.complete(201, {"Content-Type": "text/csv"}, [b"a,b\n", b"1,2\n"])
    done = call(web, path)
    assert (done.status, done.content) == (201, b"a,b\n1,2\n")
    assert done.header(b"Content-Type") == b"text/csv"


def test_its_progress_is_seen_by_who_polls(web: Any, operations: Operations) -> None:
    path = asked(web)
    with claimed(operations) as work:
        work.progress(1, total=4, message="a quarter")
        until(lambda: b'"completed":1' in call(web, path).content)
        assert b'"message":"a quarter"' in call(web, path).content
        work.complete(204)
    assert call(web, path).status == 204


def test_the_oldest_comes_first(web: Any, operations: Operations) -> None:
    paths = [asked(web), asked(web)]
    works = [claimed(operations) for _ in paths]
    assert [f"/operations/{work.id}" for work in works] == paths
    operations.close()
    assert {call(web, path).status for path in paths} == {500}, "their program has ended"


def test_it_knows_when_its_response_is_not_wanted_any_more(
    web: Any, operations: Operations
) -> None:
    path = asked(web)
    with claimed(operations) as work:
        work.raise_if_cancelled()
        assert call(web, path, "DELETE").status == 202
        until(lambda: work.cancelled)
        with pytest.raises(OperationCancelled):
            work.raise_if_cancelled()
        work.raise_if_cancelled()
    assert call(web, path).status == 410


def test_what_it_does_not_complete_has_failed(web: Any, operations: Operations) -> None:
    path = asked(web)

    def work_on_it() -> None:
        with claimed(operations):
            raise ValueError("no such month")

    with pytest.raises(ValueError, match="no such month"):
        work_on_it()
    assert call(web, path).status == 500


@pytest.mark.parametrize(("path", "state"), [("/again", State.ACCEPTED), ("/once", State.FAILED)])
def test_what_is_let_go_goes_back_if_it_may_be_run_again(
    web: Any, operations: Operations, path: str, state: State
) -> None:
    asked(web, path)
    with pytest.raises(KeyboardInterrupt), claimed(operations):
        raise KeyboardInterrupt
    [stored] = engine_of(web).repository.find_all(Filter())
    assert (stored.state, stored.queue) == (state, "nightly")
    assert stored.reason is (Reason.SHUTDOWN if state is State.FAILED else None)


def test_its_lease_is_renewed_while_it_works(web: Any, operations: Operations) -> None:
    asked(web)
    work = claimed(operations)
    running = operations._engine.running.get(work.id)
    assert running is not None
    running.renewed = before = time.monotonic() - 1000
    until(lambda: running.renewed > before)
    work.complete()


def test_a_web_process_may_finish_what_it_has_accepted_itself(
    web: Any, operations: Operations
) -> None:
    application = engine_of(web).application
    asked(web)
    [stored] = engine_of(web).repository.find_all(Filter())
    assert application.may_run(stored.application)


def test_it_has_to_know_of_which_application_and_where(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAINCHECK_STORE", raising=False)
    with pytest.raises(ConfigurationError, match="give the store"):
        Operations(application="shop")
    with pytest.raises(ConfigurationError, match="application must be the name"):
        Operations(store, application="")


def test_a_worker_in_the_same_process_leaves_it_its_operations(
    web: Any, operations: Operations
) -> None:
    """An application's module may have both: what a program claims, no worker would end."""
    asked(web)
    worker = Worker(web, ["nightly"])
    worker.start()
    try:
        assert engine_of(web).queues in queues_here()
        assert operations._engine.queues not in queues_here()
    finally:
        worker.close()


def test_a_worker_finds_the_one_of_several_middlewares_whose_operation_it_is(
    store: MemoryStore,
) -> None:
    ran: list[str] = []

    def run(environ: Any, start_response: Any) -> list[bytes]:
        ran.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b""]

    others = [wrap(never, store=MemoryStore(), application=f"other-{n}") for n in range(4)]
    web = wrap(run, store=store, runners={"/**": "nightly"}, application="mine")
    operation_id = asked(web).rpartition("/")[2]
    worker = Worker(web)
    try:
        assert worker.run(operation_id) is Take.BEGUN
        assert ran == ["/reports"]
    finally:
        worker.close()
        del others
