"""Requests that raincheck leaves alone: they run where they would without it."""

# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.core.signals import request_finished
from django.test import AsyncClient, Client, override_settings
from django.test.utils import setup_test_environment, teardown_test_environment

from raincheck import StoreUnavailable
from raincheck.stores.memory import MemoryStore
from tests.django.site import LONG, OURS, VIEWS, field, serving, until
from tests.django.views import Gate
from tests.support import asgi
from tests.support.asgi import http_scope
from tests.support.wsgi import environ_of

TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
MARKED_ONLY = [{"BUDGET": None}, {"MODE": "marked"}, {"MODE": "prefer"}, {"EXCLUDE": ["/**"]}]


@pytest.mark.parametrize("options", MARKED_ONLY, ids=str)
def test_what_is_not_marked_runs_in_the_servers_thread(options: dict[str, Any]) -> None:
    with serving("wsgi", **options) as site:
        answer = site.call("/where")
    assert answer.content.decode() == threading.current_thread().name


@pytest.mark.parametrize("options", MARKED_ONLY[:2], ids=str)
def test_what_is_marked_is_deferred_and_runs_elsewhere(options: dict[str, Any]) -> None:
    with serving("wsgi", **options) as site:
        answer = site.deferred("/where/marked")
    assert answer.content.decode().startswith("raincheck-")


def test_a_preference_does_not_defer_what_is_not_marked_where_marks_decide() -> None:
    with serving("wsgi", MODE="marked") as site:
        answer = site.call("/where", headers=[(b"prefer", b"respond-async")])
    assert (answer.status, answer.content.decode()) == (200, threading.current_thread().name)


def test_as_many_operations_as_may_be_are_refused_before_anything_runs(way: str) -> None:
    with serving(way, LIMITS={"OPERATIONS": 1}) as site:
        accepted = site.accepted("/held")
        asked = [(b"prefer", b"respond-async")]
        refused = site.call("/hello", headers=asked)
        assert refused.status == 503
        Gate.opened.set()
        site.follow(accepted)
        answers = [refused]

        def is_admitted() -> bool:  # there is room a moment after the end of the first can be read
            answers.append(site.call("/hello", headers=asked))
            return bool(answers[-1].status != 503)

        until(is_admitted)
        assert answers[-1].status == 202
        assert site.follow(answers[-1]).content == b"hello"


class Full(MemoryStore):
    """Takes no operation."""

    def create(self, *_: Any) -> Any:
        raise StoreUnavailable("no space")


def test_above_the_limit_of_requests_that_stay_synchronous_none_begins(way: str) -> None:
    with serving(way, BUDGET=0, STORE=Full(), LIMITS={"SYNCHRONOUS": 0}) as site:
        assert site.call("/hello").status == 200  # that the store fails was not known
        refused = site.call("/hello")
    assert (refused.status, field(refused, "retry-after")) == (503, "5")


@pytest.fixture
def _project() -> Any:
    with override_settings(
        ROOT_URLCONF=VIEWS,
        MIDDLEWARE=[OURS],
        RAINCHECK={"STORE": "memory:", "BUDGET": LONG},
        TEMPLATES=TEMPLATES,
    ):
        setup_test_environment()
        yield
        teardown_test_environment()


@pytest.mark.usefixtures("_project")
def test_the_test_client_sees_templates_and_context() -> None:
    response = Client().get("/template")
    assert response.content == b"Hello you"
    assert response.context["who"] == "you"
    assert response.templates
    assert response.resolver_match.func.__name__ == "template"


@pytest.mark.usefixtures("_project")
def test_the_test_client_raises_what_a_view_has_raised() -> None:
    with pytest.raises(ValueError, match="on purpose"):
        Client().get("/raises")


@pytest.mark.usefixtures("_project")
def test_the_test_client_reads_a_stream() -> None:
    assert len(Client().get("/stream").getvalue()) == 500_000


@pytest.mark.usefixtures("_project")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_the_async_test_client_sees_templates_and_context() -> None:
    response = await AsyncClient().get("/template")
    assert response.content == b"Hello you"
    assert response.context["who"] == "you"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.anyio
async def test_the_async_test_client_is_answered_202_for_a_slow_view() -> None:
    with serving("asgi"):  # its scopes have the query as text
        client = AsyncClient()
        accepted = await client.get("/held/async?a=b")
        assert accepted.status_code == 202
        Gate.opened.set()
        response = accepted
        while response.status_code == 202:
            response = await client.get(path_of_url(accepted["location"]))
        assert response.status_code == 201


def path_of_url(url: str) -> str:
    return "/" + url.split("://")[-1].partition("/")[2]


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
@pytest.mark.parametrize("budget", [0, LONG])
def test_a_stream_ends_in_the_thread_that_has_begun_it(way: str, budget: float) -> None:
    with serving(way, BUDGET=budget) as site:
        answer = site.call("/closing") if budget else site.deferred("/closing")
        assert len(answer.content) == 200 * 20_000
        until(lambda: "closed in" in Gate.seen)
    assert Gate.seen["threads"] == {Gate.seen["closed in"]} == {Gate.seen["made in"]}


def test_a_stream_that_nobody_reads_ends_in_the_thread_that_has_begun_it() -> None:
    with serving("wsgi", BUDGET=LONG) as site:
        site.handler = _leaving(site.handler)
        site.call("/closing")
        until(lambda: "closed in" in Gate.seen)
    assert Gate.seen["threads"] == {Gate.seen["closed in"]} == {Gate.seen["made in"]}


def _leaving(handler: Any) -> Any:
    """Be a server whose client leaves after the first chunk."""

    def application(environ: Any, start_response: Any) -> Any:
        response = handler(environ, start_response)
        try:
            return [next(iter(response))]
        finally:
            response.close()

    return application


def test_a_request_finishes_for_its_client_and_for_its_handler(way: str) -> None:
    threads: list[str] = []

    def note(**kwargs: Any) -> None:
        threads.append(threading.current_thread().name)

    request_finished.connect(note)
    try:
        with serving(way) as site:
            accepted = site.accepted("/held")
            assert len(threads) == 1
            Gate.opened.set()
            site.follow(accepted)
            until(lambda: len(threads) >= 2)
    finally:
        request_finished.disconnect(note)
    assert len(threads[:2]) == 2


def test_a_stream_is_made_as_it_is_read_and_closed_when_the_server_closes_it() -> None:
    with serving("wsgi", BUDGET=LONG) as site:
        response = site.handler(environ_of("/noted"), lambda *_: None)
        chunks = iter(response)
        assert [next(chunks) for _ in range(4)] == [b"0", b"1", b"2", b"3"]
        assert Gate.seen["log"] == ["made 0", "made 1", "made 2", "made 3"]
        response.close()
        assert Gate.seen["log"][4:] == ["closed"]


@pytest.mark.usefixtures("_project")
def test_the_test_client_sends_header_values_that_are_no_strings() -> None:
    response = Client().get("/hello", HTTP_X_NUMBER=3)
    assert response.status_code == 200
    assert response.wsgi_request.META["HTTP_X_NUMBER"] == 3


@pytest.mark.parametrize("budget", [0, LONG])
def test_header_values_that_are_no_strings_are_described(budget: float) -> None:
    with serving("wsgi", BUDGET=budget) as site:
        call = site.call if budget else site.deferred
        assert call("/hello", HTTP_X_NUMBER=3).status == 200


@pytest.mark.parametrize("budget", [0, LONG])
def test_header_fields_that_django_has_read_may_be_read_only_once(budget: float) -> None:
    fields = [(b"host", b"testserver"), (b"x-a", b"1")]
    with serving("asgi", BUDGET=budget) as site:
        assert site.loop is not None
        scope = http_scope("/hello") | {"headers": iter(fields)}
        answer = site.loop.run(asgi.Call(site.handler, scope).run())
        assert (answer.error, answer.status) == (None, 200 if budget else 202)
        if not budget:
            assert site.follow(answer).status == 200
