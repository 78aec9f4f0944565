"""One request, one connection: it is lent to the handler's thread, and comes back in time."""

# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from raincheck.django import contexts, threads
from raincheck.django.contexts import in_transaction
from raincheck.django.handler_thread import HandlerThread
from raincheck.django.lending import Lent
from raincheck.django.loan import Loan
from raincheck.monitor.waiters import Watcher
from tests.django.site import LONG, PATIENT, SYNC, path_of, serving, until
from tests.django.views import Gate
from tests.support.real_servers import postgresql_url

PREPARING = f"{__name__}.preparing"
SETTINGS = {"ROOT_URLCONF": __name__}
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}


class Seen:
    """What the middleware around has seen of the connection of its thread."""

    before: Any
    after: Any
    handler: Any
    log: list[str]


def preparing(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Prepare the connection of this thread, as one for tenants does."""

    def middleware(request: HttpRequest) -> HttpResponse:
        Seen.log = []
        Seen.before = connections["default"] = connections.create_connection("default")
        connection.tenant = "acme"
        response = get_response(request)
        Seen.after = connections["default"]
        Seen.log.append("around")
        return response

    return middleware


def _shown() -> dict[str, Any]:
    Seen.handler = connections["default"]
    connection.validate_thread_sharing()
    return {"tenant": getattr(connection, "tenant", None)}


def show(request: HttpRequest) -> HttpResponse:
    return JsonResponse(_shown())


async def show_async(request: HttpRequest) -> HttpResponse:
    return JsonResponse(await sync_to_async(_shown)())


def tells(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('app.tenant', true)")
        return HttpResponse(str(cursor.fetchone()[0]))


def tells_held(request: HttpRequest) -> HttpResponse:
    Gate.wait()
    return tells(request)


async def without(request: HttpRequest) -> HttpResponse:
    return JsonResponse({})


def held(request: HttpRequest) -> HttpResponse:
    Gate.wait()
    return show(request)


async def held_async(request: HttpRequest) -> HttpResponse:
    await Gate.wait_async()
    return await show_async(request)


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def pieces() -> Iterator[str]:
        for n in range(3):
            Seen.log.append(f"piece {n}")
            yield json.dumps(_shown()) + "\n"

    response = StreamingHttpResponse(pieces())
    response._resource_closers.append(lambda: Seen.log.append(f"closed for {_shown()['tenant']}"))
    return response


async def stream_async(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> Any:
        for n in range(3):
            Seen.log.append(f"piece {n}")
            yield json.dumps(await sync_to_async(_shown)()) + "\n"

    response = StreamingHttpResponse(pieces())
    response._resource_closers.append(lambda: Seen.log.append(f"closed for {_shown()['tenant']}"))
    return response


def fails(request: HttpRequest) -> HttpResponse:
    _shown()
    raise ValueError("on purpose")


def exits(request: HttpRequest) -> HttpResponse:
    _shown()
    raise SystemExit


def asks(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    Gate.wait()
    return show(request)


def asking_owner(request: HttpRequest) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 'ada'")
        return str(cursor.fetchone()[0])


urlpatterns = [
    path("tells", tells),
    path("tells/held", tells_held),
    path("show", show),
    path("show/async", show_async),
    path("without", without),
    path("held", held),
    path("held/async", held_async),
    path("stream", stream),
    path("stream/async", stream_async),
    path("fails", fails),
    path("exits", exits),
    path("asks", asks),
]
TENANT = {"tenant": "acme"}


@pytest.fixture(params=["wsgi", "asgi, sync outside", "asgi, sync around"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("path", ["/show", "/show/async"])
def test_a_handler_in_time_has_the_connection_that_was_prepared_around_it(
    way: str, path: str
) -> None:
    with serving(way, around=[PREPARING], settings=SETTINGS, BUDGET=LONG) as site:
        for _ in range(3):
            assert json.loads(site.call(path).content) == TENANT
            assert Seen.handler is Seen.before
            assert Seen.after is Seen.before


@pytest.mark.parametrize("path", ["/held", "/held/async"])
def test_a_deferred_handler_keeps_the_connection_and_who_is_around_gets_another(
    way: str, path: str
) -> None:
    with serving(way, around=[PREPARING], settings=SETTINGS) as site:
        accepted = site.accepted(path)
        assert Seen.after is not Seen.before
        lent = Seen.before
        Gate.opened.set()
        assert json.loads(site.follow(accepted).content) == TENANT
        assert Seen.handler is lent
        until(lambda: not lent.allow_thread_sharing)  # its response is there before it has gone


@pytest.mark.parametrize("path", ["/show", "/show/async"])
def test_a_handler_that_is_deferred_from_the_start_has_it_too(way: str, path: str) -> None:
    with serving(way, around=[PREPARING], settings=SETTINGS, BUDGET=0) as site:
        accepted = site.accepted(path)
        assert Seen.after is not Seen.before
        assert json.loads(site.follow(accepted).content) == TENANT


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning")
@pytest.mark.parametrize("path", ["/stream", "/stream/async"])
def test_a_stream_uses_it_when_it_is_asked_and_until_it_is_closed(way: str, path: str) -> None:
    """No piece but the first, for which the chain waits, is made beside the middleware around."""
    with serving(way, around=[PREPARING], settings=SETTINGS, BUDGET=LONG) as site:
        pieces = site.call(path).content.splitlines()
        assert [json.loads(piece) for piece in pieces] == [TENANT] * 3
        assert Seen.after is Seen.before
        pieces_after = ["piece 1", "piece 2", "closed for acme"]
        begins = ["piece 0", "around"] if _begins_in_time(way, path) else ["around", "piece 0"]
        if path == "/stream/async" and way == "wsgi":  # Django itself makes a list of it
            begins, pieces_after = ["piece 0", "piece 1", "piece 2", "around"], pieces_after[2:]
        assert Seen.log == begins + pieces_after
        assert not Seen.before.allow_thread_sharing


def _begins_in_time(way: str, path: str) -> bool:
    return not (way == "asgi, sync around" and path == "/stream/async")


def test_a_handler_that_fails_gives_it_back(way: str) -> None:
    with serving(way, around=[PREPARING], settings=SETTINGS, BUDGET=LONG) as site:
        assert site.call("/fails").status == 500
        assert Seen.after is Seen.before
        assert not Seen.before.allow_thread_sharing


def test_an_async_handler_without_sync_code_needs_none() -> None:
    with serving("asgi, sync outside", around=[PREPARING], settings=SETTINGS, BUDGET=LONG) as site:
        site.call("/without")
        assert Seen.after is Seen.before
        assert not Seen.before.allow_thread_sharing


# --- what a review has found ---------------------------------------------------------------------


@contextmanager
def databases(monkeypatch: pytest.MonkeyPatch, **chosen: Any) -> Iterator[None]:
    """Have these databases meanwhile."""
    with monkeypatch.context() as patched:
        settings = connections.configure_settings({"default": SQLITE} | chosen)
        patched.setitem(connections.__dict__, "settings", settings)
        _forget()
        yield
        _forget()


def _forget() -> None:
    connections.close_all()
    for it in connections.all(initialized_only=True):
        if it.connection is not None:  # Django closes no SQLite in memory
            it.connection.close()
        del connections[it.alias]


def test_what_has_not_been_used_is_not_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    more = {f"more{n}": {"ENGINE": "no.such.engine"} for n in range(20)}
    with databases(monkeypatch, **more):
        assert isinstance(connections["default"].alias, str)
        lent = Lent()
        lent.lend()
        lent.take()
        assert [it.alias for it in connections.all(initialized_only=True)] == ["default"]
        lent.leave()
        lent.come_back()
        with serving(around=[PREPARING], settings=SETTINGS, BUDGET=LONG) as site:
            assert json.loads(site.call("/show").content) == TENANT


def test_what_the_handler_opens_comes_back_too_and_belongs_to_who_gets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with databases(monkeypatch, other=SQLITE), ThreadPoolExecutor(1) as handler:
        lent = Lent()
        lent.lend()

        def handle() -> Any:
            lent.take()
            opened = connections["other"]
            opened.ensure_connection()
            lent.leave()
            return opened

        opened = handler.submit(handle).result()
        lent.come_back()
        assert connections["other"] is opened
        opened.validate_thread_sharing()


def test_a_transaction_without_atomic_is_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with databases(monkeypatch):
        assert not in_transaction()
        connections["default"].set_autocommit(False)
        assert in_transaction()


def begun(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Begin a transaction for a request, as middleware for revisions does."""

    def middleware(request: HttpRequest) -> HttpResponse:
        with transaction.atomic():
            return get_response(request)

    return middleware


def test_a_transaction_around_keeps_a_request_from_being_deferred_and_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(contexts, "_TOLD", threading.Event())
    within = serving(around=[f"{__name__}.begun"], settings=SETTINGS, BUDGET=0)
    with databases(monkeypatch), within as site:
        for _ in range(2):
            assert site.call("/show").status == 200
    assert caplog.text.count("has begun a transaction") == 1


def test_a_repeat_under_a_key_runs_no_handler_and_lends_nothing(way: str) -> None:
    key = [(b"idempotency-key", b"once")]
    with serving(way, around=[PREPARING], settings=SETTINGS, BUDGET=LONG) as site:
        for n in range(3):
            answer = site.call("/show", "POST", headers=key)
            assert json.loads(answer.content) == TENANT
            if n:
                assert Seen.after is Seen.before
                assert not Seen.before.allow_thread_sharing


def test_a_handler_that_exits_gives_it_back() -> None:
    with serving(around=[PREPARING], settings=SETTINGS, BUDGET=LONG) as site:
        answer = Context().run(site._call, "/exits", "GET", (), b"")
        assert isinstance(answer.error, SystemExit)
        assert connections["default"] is Seen.before
        assert not Seen.before.allow_thread_sharing


def test_the_connection_of_a_thread_that_was_stopped_is_closed_by_the_handler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Stopped(BaseException):
        pass

    def stop(*_: Any) -> bool:
        assert Gate.reached.wait(PATIENT)
        raise Stopped

    file = SQLITE | {"NAME": str(tmp_path / "db")}
    prepared = serving(around=[PREPARING], settings=SETTINGS)
    with databases(monkeypatch, default=file), prepared as site:
        monkeypatch.setattr(threads.Exchange, "_wait_for_budget", stop)
        with pytest.raises(Stopped):
            site.call("/asks")
        assert Seen.before.connection is not None
        Gate.opened.set()
        until(lambda: not Seen.before.allow_thread_sharing)
        assert Seen.before.connection is None


def _held_up() -> tuple[ThreadPoolExecutor, threading.Event]:
    """Return a request's thread that has something else to do."""
    around, opened = ThreadPoolExecutor(1), threading.Event()
    around.submit(lambda: connections["default"])
    around.submit(opened.wait)
    return around, opened


def test_a_202_does_not_wait_for_the_thread_of_its_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with databases(monkeypatch):
        around, opened = _held_up()
        loan = Loan(around)

        def accept() -> None:
            with loan.asking():
                loan.keep()

        with ThreadPoolExecutor(1) as handler:
            try:
                handler.submit(accept).result(PATIENT)  # although that thread is busy
            finally:
                opened.set()
            handler.submit(loan.end).result(PATIENT)
        around.shutdown()


def test_no_cancellation_comes_between_the_handler_and_the_way_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        with ThreadPoolExecutor(1) as around:
            its = around.submit(lambda: connections["default"]).result()
            thread, began, opened = (
                HandlerThread(Loan(around)),
                threading.Event(),
                threading.Event(),
            )

            def work() -> None:
                assert connections["default"] is its
                began.set()
                assert opened.wait(PATIENT)
                assert connections["default"] is its  # as long as it works

            working = thread._executor.submit(work)
            await asyncio.to_thread(began.wait)
            ending = asyncio.create_task(thread.end())
            for _ in range(3):
                await asyncio.sleep(0)
                ending.cancel()
            assert not ending.done()
            opened.set()
            with pytest.raises(asyncio.CancelledError):
                await ending
            working.result()
            assert around.submit(lambda: connections["default"]).result() is its
            assert not its.allow_thread_sharing

    with databases(monkeypatch):
        asyncio.run(run())


def _pooled(size: int) -> dict[str, Any]:
    url = urlsplit(postgresql_url())
    pool = {"min_size": 0, "max_size": size, "timeout": PATIENT}
    return {
        **{"ENGINE": "django.db.backends.postgresql", "NAME": url.path[1:]},
        **{"USER": url.username, "PASSWORD": url.password or "", "OPTIONS": {"pool": pool}},
        **{"HOST": url.hostname, "PORT": url.port},
    }


@pytest.mark.server
@pytest.mark.parametrize("budget", [0, 0.1])
@pytest.mark.parametrize("around", [[PREPARING, SYNC], [SYNC]], ids=["prepared", "not prepared"])
def test_a_202_needs_nothing_from_a_pool_of_one(
    way: str, around: list[str], budget: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"BUDGET": budget, "OWNER": asking_owner}
    with databases(monkeypatch, default=_pooled(1)):
        with serving(way, around=around, settings=SETTINGS, **options) as site:
            accepted = site.accepted("/asks")
            Gate.opened.set()
            expected = TENANT if PREPARING in around else {"tenant": None}
            assert json.loads(site.follow(accepted).content) == expected
        connections["default"].close_pool()


def setting(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Set the tenant of the session of a request that names one, and reset it afterwards."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if "X-Tenant" not in request.headers:
            return get_response(request)
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('app.tenant', 'acme', false)")
        try:
            return get_response(request)
        finally:
            with connection.cursor() as cursor:
                cursor.execute("RESET app.tenant")

    return middleware


@pytest.mark.server
def test_what_was_set_for_a_handler_that_kept_its_connection_is_seen_by_nobody_else(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"BUDGET": 0.1, "INCLUDE": ["/tells/**"]}
    with databases(monkeypatch, default=_pooled(2)):
        with serving(way, around=[f"{__name__}.setting"], settings=SETTINGS, **options) as site:
            accepted = site.accepted("/tells/held", headers=[(b"x-tenant", b"acme")])
            Gate.opened.set()
            assert site.follow(accepted).content == b"acme"
            for _ in range(4):
                assert site.call("/tells").content in (b"None", b"")
        connections["default"].close_pool()


def waiting_asks(get_response: Callable[[HttpRequest], HttpResponse]) -> Any:
    """Ask the database who sends a request that would wait."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if "Prefer" in request.headers:
            asking_owner(request)
        return get_response(request)

    return middleware


WAITING = f"{__name__}.waiting_asks"


@pytest.mark.server
@pytest.mark.parametrize("is_repeat", [False, True], ids=["a poll", "a repeat"])
def test_who_waits_keeps_no_connection_of_a_pool_from_the_handler(
    way: str, is_repeat: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, wait = threading.Event(), Watcher.waiting

    def waiting(*given: Any) -> Any:
        waits.set()
        return wait(*given)

    monkeypatch.setattr(Watcher, "waiting", waiting)
    options: dict[str, Any] = {"BUDGET": 0.1, "LIMITS": {"WAITERS": 5}}
    with databases(monkeypatch, default=_pooled(1)):
        with serving(way, around=[WAITING], settings=SETTINGS, **options) as site:
            key, prefer = (b"idempotency-key", b"once"), (b"prefer", b"wait=20")
            accepted = site.accepted("/tells/held", "POST", headers=[key])
            waits.clear()
            with ThreadPoolExecutor(1) as others:
                if is_repeat:
                    told = others.submit(site.call, "/tells/held", "POST", headers=[key, prefer])
                else:
                    told = others.submit(site.call, path_of(accepted), headers=[prefer])
                assert waits.wait(PATIENT)
                Gate.opened.set()
                assert told.result().status == 200
        connections["default"].close_pool()
