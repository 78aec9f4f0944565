"""Handlers that use what works in the main thread only: seen by their code, and left there."""

# mypy: disable-error-code="import-untyped, untyped-decorator"

from __future__ import annotations

import asyncio
import functools
import signal
import sys
import threading
from asyncio import get_event_loop
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from signal import alarm as set_alarm
from types import SimpleNamespace
from typing import Any

import bottle
import flask
import pytest
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from django.urls import path

from raincheck import long_running
from raincheck.inspection import bound_requests
from raincheck.inspection.check import check
from raincheck.inspection.main_thread import bound_to_main_thread
from raincheck.wsgi import RaincheckMiddleware
from tests.support.django_settings import configure
from tests.support.wsgi import call

configure()

from raincheck.django import RaincheckMiddleware as DjangoMiddleware  # noqa: E402
from raincheck.django.checks import check_marks  # noqa: E402

OURS = "raincheck.django.RaincheckMiddleware"


def by_attribute() -> None:
    signal.alarm(3)


def by_name() -> None:
    set_alarm(3)


def by_import() -> None:
    import signal as signals

    signals.signal(signals.SIGALRM, signals.SIG_DFL)


def by_import_from() -> None:
    from signal import ITIMER_REAL, setitimer

    setitimer(ITIMER_REAL, 3)


def in_a_function_of_its_own() -> object:
    return (lambda: signal.alarm(3))()


def by_a_loop() -> object:
    return asyncio.get_event_loop().run_until_complete(asyncio.sleep(0))


def by_a_loops_name() -> object:
    return get_event_loop()


@contextmanager
def limit(seconds: int) -> Iterator[None]:
    signal.alarm(seconds)
    yield


class Limit:
    def __enter__(self) -> None:
        signal.alarm(3)

    def __exit__(self, *_: object) -> None: ...


def by_a_helper() -> None:
    with limit(3):
        pass


def by_a_class() -> None:
    with Limit():
        pass


def limited(function: Callable[..., object]) -> Callable[..., object]:
    @functools.wraps(function)
    def within(*arguments: object) -> object:
        signal.alarm(3)
        return function(*arguments)

    return within


@limited
def by_a_decorator() -> None: ...


class ByAMethod:
    def on_get(self) -> None:
        signal.alarm(3)


BOUND = [
    *(by_attribute, by_name, by_import, by_import_from, in_a_function_of_its_own),
    *(by_a_helper, by_a_class, by_a_decorator, ByAMethod().on_get),
    *(long_running(by_attribute), functools.partial(by_attribute)),
]


@pytest.mark.parametrize("handler", BOUND, ids=range(len(BOUND)))
def test_what_works_in_the_main_thread_only_is_seen_in_the_code_of(handler: object) -> None:
    assert bound_to_main_thread(handler, "GET") is not None


@pytest.mark.parametrize("handler", [by_a_loop, by_a_loops_name])
def test_a_loop_is_made_in_the_main_thread_only_before_python_3_14(handler: object) -> None:
    is_bound = bound_to_main_thread(handler, "GET") is not None
    assert is_bound == (sys.version_info < (3, 14))


def names_a_signal() -> object:
    return signal.SIGALRM


def runs_a_coroutine() -> object:
    return asyncio.run(asyncio.sleep(0))


async def is_a_coroutine() -> object:
    return asyncio.get_event_loop()


def has_a_coroutine() -> object:
    async def work() -> object:
        return asyncio.get_event_loop()

    return asyncio.run(work())


def has_a_name_of_its_own(signal: Any) -> object:
    return signal.alarm(3)


BLINKER = SimpleNamespace(signal=print, alarm=print)


def has_another_with_these_names() -> None:
    BLINKER.signal("saved")
    BLINKER.alarm(3)


def uses_another_package() -> object:
    return flask.jsonify(asyncio.iscoroutinefunction(print))


FREE = [
    *(names_a_signal, runs_a_coroutine, is_a_coroutine, has_a_coroutine, has_a_name_of_its_own),
    *(has_another_with_these_names, uses_another_package, print, object(), None),
]


@pytest.mark.parametrize("handler", FREE, ids=range(len(FREE)))
def test_what_works_in_every_thread_is_not_taken_for_it(handler: object) -> None:
    assert bound_to_main_thread(handler, "GET") is None


def test_functions_that_were_looked_into_are_not_again() -> None:
    def one() -> object:
        return names_a_signal()

    seen: set[Any] = set()
    assert bound_to_main_thread(one, "GET", seen) is None
    assert seen == {one, names_a_signal}


# --- what becomes of them ----------------------------------------------------------------------


def where(*_: object) -> str:
    return threading.current_thread().name


def alarmed(*_: object) -> str:
    signal.alarm(0)
    return where()


def flask_app() -> Any:
    app = flask.Flask(__name__)
    for name, view in (("free", where), ("alarmed", alarmed), ("marked", long_running(alarmed))):
        app.add_url_rule(f"/{name}", name, view)
    return app


def bottle_app() -> Any:
    app = bottle.Bottle()
    for name, view in (("free", where), ("alarmed", alarmed), ("marked", long_running(alarmed))):
        app.route(f"/{name}", callback=view)
    return app


APPS = [flask_app, bottle_app]


def wrapped(app: Any, **options: Any) -> RaincheckMiddleware:
    chosen: dict[str, Any] = {"store": "memory:", "budget": 60, "application": "tests"} | options
    return RaincheckMiddleware(app, **chosen)


@pytest.mark.parametrize("make", APPS)
@pytest.mark.parametrize("name", ["alarmed", "marked"])
@pytest.mark.parametrize("mode", ["auto", "marked"])
def test_a_handler_that_needs_the_main_thread_stays_there(
    make: Callable[[], Any], name: str, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = wrapped(make(), mode=mode)
    for _ in range(3):
        assert call(app, f"/{name}").content == b"MainThread"
    said = [each for each in caplog.messages if "signal.alarm" in each]
    assert len(said) == (1 if mode == "auto" or name == "marked" else 0)


@pytest.mark.parametrize("make", APPS)
def test_a_handler_that_needs_no_main_thread_may_be_deferred_there(make: Callable[[], Any]) -> None:
    assert call(wrapped(make()), "/free").content.startswith(b"raincheck-")


@pytest.mark.parametrize("make", APPS)
def test_in_the_threads_of_a_server_handlers_have_no_main_thread_to_stay_in(
    make: Callable[[], Any],
) -> None:
    app = wrapped(make())
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(call, app, "/alarmed").result().content.startswith(b"raincheck-")
    assert app._stays_here._tell is None, "nothing was looked up"


def test_where_no_handler_needs_the_main_thread_no_request_is_looked_up() -> None:
    app = flask.Flask(__name__)
    app.add_url_rule("/free", "free", where)
    assert bound_requests(app) is None


def test_an_application_that_is_not_known_or_cannot_be_looked_into_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = flask_app()
    monkeypatch.setattr(app.url_map, "iter_rules", None)
    assert bound_requests(app) is None
    assert bound_requests(print) is None


# --- what the check says -----------------------------------------------------------------------


def complaints(app: Any) -> list[str]:
    report = check(app)
    assert report is not None
    return [str(each) for each in report.complaints if each.code == "main-thread"]


def served(**options: Any) -> Any:
    app = flask_app()
    app.wsgi_app = wrapped(app.wsgi_app, **options)
    return app


def test_the_check_says_which_handlers_need_the_main_thread() -> None:
    [one] = complaints(served())  # a function is complained about once
    assert "GET /alarmed" in one
    assert "signal.alarm" in one
    assert "test_main_thread.py:" in one


@pytest.mark.parametrize(
    ("options", "number"),
    [
        ({"exclude": ["/alarmed"]}, 1),  # the mark's
        ({"exclude": ["/alarmed", "/marked"]}, 0),
        ({"include": ["/free"]}, 0),
        ({"mode": "marked"}, 1),
        ({"mode": "prefer"}, 0),
    ],
)
def test_the_check_says_so_only_of_what_may_be_deferred(
    options: dict[str, Any], number: int
) -> None:
    assert len(complaints(served(**options))) == number


def test_without_the_middleware_nobody_leaves_the_main_thread() -> None:
    assert complaints(flask_app()) == []


# --- Django ------------------------------------------------------------------------------------


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse(alarmed())


def free(request: HttpRequest) -> HttpResponse:
    return HttpResponse(where())


urlpatterns = [path("alarmed", view), path("free", free)]


@contextmanager
def project(**options: Any) -> Iterator[None]:
    chosen: dict[str, Any] = {"STORE": "memory:", "BUDGET": 60, "APPLICATION": "tests"}
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[OURS], RAINCHECK=chosen | options):
        yield


def test_a_view_of_django_that_needs_the_main_thread_stays_there() -> None:
    with project():
        for name, thread in (("alarmed", "MainThread"), ("free", "raincheck-")):
            answer = call(get_wsgi_application(), f"/{name}")
            assert answer.content.decode().startswith(thread)


def test_in_an_async_chain_of_django_there_is_no_main_thread_to_stay_in() -> None:
    async def respond(request: HttpRequest) -> HttpResponse:
        return view(request)

    with project():
        middleware = DjangoMiddleware(respond)
        assert not middleware._goes_on(_with_scope(RequestFactory().get("/alarmed")), _ANY)


class _Any:
    in_person = False
    queue = None
    budget = 60.0


_ANY: Any = _Any()


def _with_scope(request: Any) -> Any:
    request.scope = {}
    return request


@pytest.mark.parametrize(("options", "number"), [({}, 1), ({"EXCLUDE": ["/alarmed"]}, 0)])
def test_both_checks_say_which_views_need_the_main_thread(
    options: dict[str, Any], number: int
) -> None:
    with project(**options):
        assert len(complaints(get_wsgi_application())) == number
        assert [each.id for each in check_marks(None)] == ["raincheck.W008"] * number


def test_settings_that_are_wrong_are_another_checks_matter() -> None:
    with project(BUDGET=-1):
        assert check_marks(None) == []
