"""Names of one application that servers start in different ways, and what workers make of them."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from raincheck.config import application
from raincheck.config.options import Settings
from raincheck.engine.engine import Engine
from raincheck.engine.identity import Application
from raincheck.engine.twins import Called
from raincheck.operations.operation import Operation
from tests.unit.engines import EngineTests, FaultyStore, NoHeartbeat, Rerunner, Time, answer, start

HERE = "/srv/shop"


def called(
    started: str, *homes: str, kind: str = "asgi", otherwise: str = "starlette.applications.S"
) -> Called:
    return Called(kind, started, "/operations", HERE, frozenset(homes), otherwise)


def named(
    started: str,
    home: str,
    *,
    kind: str = "asgi",
    prefix: str = "/operations",
    directory: str = HERE,
) -> str:
    return f"{kind} {started} {prefix} in {directory}: {home}"


APP = called("m:app", "m:app")
FACTORY = called("m:create()")
FLASK = called("f:app", "f:f", "f:app", kind="wsgi")
MADE = called("f:create_app()", "f:f", kind="wsgi")
DJANGO = called("shop.wsgi:application", "shop.settings", kind="django")
PACKAGED = called("shop.web:app", "shop.web:app")


@pytest.mark.parametrize(
    ("worker", "web"),
    [
        (APP, named("conf.py m:app", "m:app")),
        (APP, named("gunicorn", "m:app")),
        (APP, named("main.py", "m:app")),
        (APP, named("m.py", "__main__:app")),
        (PACKAGED, named("web.py", "__main__:app")),
        (FACTORY, named("m:create", "starlette.applications.S")),
        (FACTORY, named("conf.py m:create()", "starlette.applications.S")),
        (FLASK, named("flask", "f:f", kind="wsgi")),
        (FLASK, named("f.py", "f:f", kind="wsgi")),
        (FLASK, named("f.py", "__main__:app", kind="wsgi")),
        (MADE, named("f:create_app", "f:f", kind="wsgi")),
        (MADE, named("flask", "f:f", kind="wsgi")),
        (DJANGO, named("manage.py", "shop.settings", kind="django")),
        (DJANGO, named("gunicorn", "shop.settings", kind="django")),
        (DJANGO, named("shop.asgi:application", "shop.settings", kind="django")),
    ],
)
def test_a_worker_may_be_the_same_application_as(worker: Called, web: str) -> None:
    assert worker.may_be(web)


@pytest.mark.parametrize(
    ("worker", "web"),
    [
        (APP, named("conf.py m:app", "m:app", directory="/srv/other")),
        (APP, named("conf.py m:app", "m:app", directory=f"{HERE}/old")),
        (APP, named("conf.py m:app", "m:app", prefix="/jobs")),
        (APP, named("conf.py m:app", "m:app", kind="wsgi")),
        (APP, named("conf.py m:admin", "m:admin")),
        (APP, named("m:other", "m:app")),
        (APP, named("m.py", "__main__:admin")),
        (APP, named("n.py", "__main__:app")),
        (FACTORY, named("main.py", "starlette.applications.S")),
        (FACTORY, named("m:create_admin", "starlette.applications.S")),
        (FACTORY, named("m:create('admin')", "starlette.applications.S")),
        (MADE, named("f:create_app('admin')", "f:f", kind="wsgi")),
        (called("gunicorn"), named("uvicorn", "starlette.applications.S")),
        (DJANGO, named("manage.py", "office.settings", kind="django")),
        (APP, "shop"),
        (APP, "asgi m:app"),
    ],
)
def test_a_worker_is_another_application_than(worker: Called, web: str) -> None:
    assert not worker.may_be(web)


async def served(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(
    ("started", "is_whole"),
    [
        ("m:app", True),
        ("shop.web:create.app", True),
        ("m:create()", True),
        ("m:create('admin')", False),
        ("conf.py m:app", False),
        ("flask", False),
        ("manage.py", False),
    ],
)
def test_what_a_worker_can_be_given_to_have_the_same_store(started: str, is_whole: bool) -> None:
    assert application.is_whole(started) == is_whole


def test_a_program_is_the_same_application_if_its_source_is() -> None:
    own = Application(None, "asgi", "/operations", lambda: served)
    vars(own).update(_called=PACKAGED, code="1")
    program, server = named("web.py", "__main__:app"), named("gunicorn", "shop.web:app")
    assert own.may_be_called(program, "1")
    assert not own.may_be_called(program, "2")  # as of `office/web.py`
    assert not own.may_be_called(program, None)
    assert own.may_be_called(server, "2")  # it may have been changed meanwhile


QUEUE = "workers"
WAITS = "operations wait in queue 'workers' for "


class TestWorkers(EngineTests):
    """What a worker does with operations under other names than its own, `m:app`."""

    @pytest.fixture
    def worker(self, store: FaultyStore, time: Time) -> Engine:
        engine = self.started(store, time, "m:app")
        engine.recovery.rerunner = Rerunner()
        engine.queues.served = frozenset({QUEUE})
        return engine

    def started(self, store: FaultyStore, time: Time, named: str) -> Engine:
        """Return the engine of an application that has been told no name."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["server", *named.split()])
            settings = Settings(store="memory:")
            engine = Engine(settings, store, "asgi", lambda: served, sleep=time.sleep)
        engine.heartbeat = NoHeartbeat(engine)
        return engine

    def wait(self, store: FaultyStore, time: Time, named: str) -> Operation:
        """Have a server accept an operation for workers."""
        return start(self.started(store, time, named), method="POST", queue=QUEUE)

    def test_it_runs_what_is_its_own_under_another_server(
        self, store: FaultyStore, time: Time, worker: Engine, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = self.wait(store, time, "conf.py m:app")
        self.wait(store, time, "office:app")
        assert worker.queues.take_due(9) == []
        assert worker.queues.may_have_twins()
        assert worker.queues.look_for_strangers()
        assert worker.queues.take_due(9) == [first.id]
        assert not worker.queues.may_have_twins()
        later = self.wait(store, time, "conf.py m:app")
        assert worker.queues.take_due(9) == [later.id]
        assert not worker.queues.look_for_strangers()
        assert f"{WAITS}'asgi office:app" in caplog.text
        assert f"{WAITS}'asgi conf.py" not in caplog.text

    @pytest.mark.parametrize("also", ["other.py m:app", "m:app"])
    def test_where_two_could_be_meant_it_takes_none_but_its_own_name(
        self,
        store: FaultyStore,
        time: Time,
        worker: Engine,
        caplog: pytest.LogCaptureFixture,
        also: str,
    ) -> None:
        self.wait(store, time, "conf.py m:app")
        self.wait(store, time, also)
        assert not worker.queues.look_for_strangers()
        assert f"{WAITS}'asgi conf.py m:app" in caplog.text
        assert len(worker.queues.take_due(9)) == (1 if also == "m:app" else 0)

    def test_while_anything_is_kept_under_its_own_name_it_takes_no_other(
        self, store: FaultyStore, time: Time, worker: Engine
    ) -> None:
        own = self.wait(store, time, "m:app")
        worker.finish(own, answer(own))
        self.wait(store, time, "conf.py m:app")
        assert not worker.queues.look_for_strangers()
        assert not worker.queues.may_have_twins()

    def test_one_that_has_a_name_takes_no_other(
        self, store: FaultyStore, time: Time, worker: Engine
    ) -> None:
        self.wait(store, time, "conf.py m:app")
        named = Engine(Settings(application="m"), store, "asgi", lambda: served)
        named.queues.served = frozenset({QUEUE})
        assert not named.queues.may_have_twins()
        assert not named.queues.look_for_strangers()

    @pytest.mark.parametrize(
        ("named", "options", "is_said"),
        [
            ("m:app", {}, False),
            ("conf.py m:app", {}, True),
            ("conf.py m:app", {"store": "memory:"}, False),
            ("m:app", {"workers": {QUEUE: print}, "application": "m"}, True),
        ],
    )
    def test_a_server_says_that_workers_would_look_into_another_store(
        self,
        store: FaultyStore,
        time: Time,
        caplog: pytest.LogCaptureFixture,
        monkeypatch: pytest.MonkeyPatch,
        named: str,
        options: dict[str, Any],
        is_said: bool,
    ) -> None:
        monkeypatch.delenv("RAINCHECK_STORE", raising=False)
        monkeypatch.setattr(sys, "argv", ["server", *named.split()])
        settings = Settings(runners={"/reports": QUEUE}, **options)
        engine = Engine(settings, store, "asgi", lambda: served, sleep=time.sleep)
        engine.heartbeat = NoHeartbeat(engine)
        for _ in range(2):
            start(engine, method="POST", queue=QUEUE)
        assert caplog.text.count("but no store is named") == is_said
