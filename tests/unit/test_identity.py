"""What tells applications apart that share a store."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import flask
import pytest
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route

from raincheck.asgi import RaincheckMiddleware
from raincheck.config.options import Settings
from raincheck.engine.engine import Engine
from raincheck.engine.identity import ROOTS_REMEMBERED, Application
from raincheck.engine.start import Start
from raincheck.errors import Overloaded
from raincheck.operations.transitions import Released
from tests.unit.engines import (
    EngineTests,
    FaultyStore,
    LeaseOnlyStore,
    NoHeartbeat,
    Rerunner,
    Run,
    Time,
    poll,
    start,
    stored,
)


async def one(scope: Any, receive: Any, send: Any) -> None: ...


async def another(scope: Any, receive: Any, send: Any) -> None: ...


class Site:
    """An application of a framework that nobody knows."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


shop, office = Site(), Site()


def made(app: object, told: str | None = None, kind: str = "asgi") -> Application:
    application = Application(told, kind, "/operations", lambda: app)
    application.roots.add("")
    return application


def by_a_factory(path: str) -> Starlette:
    return Starlette(routes=[Route(path, one)])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (made(one), made(another)),
        (made(shop), made(office)),
        (made(one), made(one, kind="wsgi")),
        (made(one, "shop"), made(one, "office")),
    ],
    ids=["functions", "objects", "kinds of middleware", "told names"],
)
def test_applications_have_names_of_their_own(first: Application, second: Application) -> None:
    assert first.at("") != second.at("")
    assert not first.is_of(second.at(""))


@pytest.mark.parametrize("told", [None, "shop"])
def test_an_application_has_the_same_name_in_each_process_and_another_at_each_mount_point(
    told: str | None,
) -> None:
    assert made(one, told).at("/v1") == made(one, told).at("/v1/")
    assert made(one, told).at("/v1") != made(one, told).at("/v2")
    assert made(one, told).is_of(made(one, told).at("/v2"))


web = Starlette()


def test_what_is_put_around_an_application_does_not_change_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    around = RaincheckMiddleware(GZipMiddleware(web), store="memory:")
    monkeypatch.setattr(sys.modules[__name__], "shop", around)  # found before what is within
    assert made(web).name == made(GZipMiddleware(web)).name == made(around).name
    assert made(around).name.endswith(f"{__name__}:web")


def test_flask_applications_that_factories_make_are_told_by_where_they_are_made() -> None:
    users, orders = flask.Flask("users"), flask.Flask("orders")
    assert made(users.wsgi_app, kind="wsgi").name != made(orders.wsgi_app, kind="wsgi").name
    assert made(users.wsgi_app, kind="wsgi").name.endswith(" users:users")


def test_an_application_that_changes_its_directory_keeps_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    application, other = made(one), made(one)
    monkeypatch.chdir(tmp_path)
    assert application.name == other.name


def test_a_directory_that_is_gone_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert made(one).name


def test_a_service_started_elsewhere_is_another_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = made(one).at("")
    monkeypatch.chdir(tmp_path)
    assert made(one).at("") != here


def test_an_application_runs_nothing_at_a_mount_point_that_it_has_not_seen() -> None:
    application = made(one)
    assert application.may_run(application.at(""))
    assert not application.may_run(application.at("/v1"))
    application.roots.add("/v1")
    assert application.may_run(application.at("/v1"))


def test_what_can_be_mistaken_for_another_one_of_its_process_runs_nothing() -> None:
    first, again = made(by_a_factory("/users")), made(by_a_factory("/users"))
    assert first.may_run(again.at("")), "they are made alike"
    other = made(by_a_factory("/orders"))
    assert other.name == first.name
    assert not first.may_run(first.at(""))
    assert not other.may_run(first.at(""))
    first.roots.clear()
    assert not other.may_run(first.at("")), "nor while one like it is there"


def test_what_an_older_raincheck_has_recorded_is_shown() -> None:
    assert made(one).may_show(None, "")
    assert made(one).may_show("asgi main:app /operations", "/v1")


Source = Callable[[str], Site]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Return what makes an application of some source code."""

    def make(text: str) -> Site:
        module: Any = ModuleType("service")
        path = tmp_path / f"{text}.py"
        path.write_text(text)
        module.__file__, module.app = str(path), Site()
        monkeypatch.setitem(sys.modules, "service", module)
        application: Site = module.app
        return application

    return make


class TestOneStore(EngineTests):
    """Several applications on one store."""

    def service(self, store: Any, time: Time, app: object, **options: Any) -> Engine:
        engine = Engine(Settings(**options), store, "asgi", lambda: app, sleep=time.sleep)
        engine.heartbeat = NoHeartbeat(engine)
        engine.recovery.rerunner = Rerunner()
        engine.application.come_in_at("")
        # As all modules are loaded now, and another one of that name may be later.
        assert engine.application.name
        assert engine.application.code
        return engine

    @pytest.mark.parametrize("told", [None, "a name"])
    @pytest.mark.parametrize("other", ["the same", "another"])
    def test_on_a_shared_store_only_the_same_source_or_a_told_name_is_run_again(
        self, time: Time, source: Source, other: str, told: str | None
    ) -> None:
        store, is_same = LeaseOnlyStore(clock=time), other == "the same" or told is not None
        first = self.service(store, time, source("the same"), application=told)
        operation = start(first)
        first.running.drop(first.running.get(operation.id))
        assert first.repository.change(operation.id, Released()) is not None
        second = self.service(store, time, source(other), application=told)
        assert second.application.name == first.application.name
        second.recover()
        assert len(second.recovery.rerunner.runs) == is_same  # type: ignore[union-attr]
        time.now += 601  # those of the version before are gone by now
        second.recover()
        assert stored(first, operation).is_terminal is not is_same

    @pytest.mark.parametrize("told", [None, "a name"])
    @pytest.mark.parametrize("kind", [LeaseOnlyStore, FaultyStore])
    def test_a_service_without_a_name_on_a_store_that_others_may_use_says_so_at_start(
        self, time: Time, told: str | None, kind: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.service(kind(clock=time), time, by_a_factory, application=told)
        is_shared = kind is LeaseOnlyStore
        assert ("`application` is not set" in caplog.text) is (is_shared and told is None)

    def test_principals_of_two_applications_are_not_the_same_owner(
        self, store: FaultyStore, time: Time
    ) -> None:
        options: dict[str, Any] = {"owner": str, "limits": {"operations_per_owner": 1}}
        ours, theirs = (self.service(store, time, app, **options) for app in (shop, office))
        begun = Start(method="GET", route="/x", owner="1")
        operation = ours.accept(Run(), begun).operation
        assert poll(theirs, operation.id, owner="1").status == 404
        assert poll(ours, operation.id, owner="1").status == 202
        theirs.accept(Run(), begun)
        with pytest.raises(Overloaded):
            ours.accept(Run(), begun)

    def test_an_operation_is_not_shown_at_another_mount_point(
        self, store: FaultyStore, time: Time
    ) -> None:
        engine = self.service(store, time, shop)
        begun = Start(method="GET", route="/x", root_path="/v1")
        assert poll(engine, engine.accept(Run(), begun).operation.id).status == 404


def test_a_client_that_makes_up_mount_points_does_not_fill_the_memory() -> None:
    application = made(one)
    for n in range(1_000):
        application.come_in_at(f"/{n}")
    assert len(application.roots) <= ROOTS_REMEMBERED
    assert application.may_run(application.at("/999"))
