"""Telling Celery's workers: quick, or an error; whatever has become of the broker meanwhile.

What others have reported of publishers is tried here: a first message that was lost without an
error, connections that were dead after a restart, and calls that never returned.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace

import pytest
from celery import Celery, signals
from kombu.exceptions import OperationalError

from raincheck.errors import ConfigurationError
from raincheck.inspection.check import NotLoadedError
from raincheck.runners.celery import TASK, CeleryWorkers, add_task
from tests.servers.servers import wait_until
from tests.support.rabbitmq import RabbitMQServer
from tests.support.real_servers import RealServer, RedisServer

slow = pytest.mark.slow
BROKERS = [
    pytest.param(RedisServer, id="redis", marks=pytest.mark.server),
    pytest.param(RabbitMQServer, id="rabbitmq", marks=[pytest.mark.server, slow]),
]
ID = "0123456789abcdef"
QUICK = 5.0  # seconds; telling is given up then


@pytest.fixture(scope="module", params=BROKERS)
def server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    with request.param() as broker:
        yield broker


@pytest.fixture
def celery(server: RealServer) -> Iterator[Celery]:
    app = Celery("told", broker=server.url, set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def tell(celery: Celery) -> Iterator[CeleryWorkers]:
    with closing(CeleryWorkers(celery)) as tell:
        yield tell


def waiting(celery: Celery, queue: str = "celery") -> int:
    """Count the messages of a queue; Redis has none any more if it was killed too soon."""
    with celery.connection_for_read() as connection:
        try:
            declared = connection.default_channel.queue_declare(queue, passive=True)
        except connection.channel_errors:
            return 0
        return int(declared.message_count)


def test_a_broker_that_was_restarted_is_told_at_once(
    server: RealServer, celery: Celery, tell: CeleryWorkers
) -> None:
    tell(ID)
    server.kill()
    for _ in range(2):  # the first would be lost without an error
        began = time.monotonic()
        with pytest.raises(OperationalError):
            tell(ID)
        assert time.monotonic() - began < QUICK
    server.start()
    before = waiting(celery)
    tell(ID)
    tell(ID)
    assert waiting(celery) == before + 2


@pytest.mark.slow
def test_a_broker_that_hangs_is_given_up(
    server: RealServer, celery: Celery, tell: CeleryWorkers
) -> None:
    tell(ID)
    server.pause()
    try:
        began = time.monotonic()
        with pytest.raises(OperationalError):
            tell(ID)
        assert time.monotonic() - began < 3 * QUICK  # its thread is not lost for ever
    finally:
        server.resume()
    wait_until(lambda: waiting(celery) >= 1, "the broker is back")
    tell(ID)


def test_a_message_goes_to_a_queue_with_a_priority_and_shows_no_id(
    celery: Celery,
) -> None:
    with closing(CeleryWorkers(celery, queue="urgent", priority=3)) as tell:
        tell(ID)
    with celery.connection_for_read() as connection:
        message = connection.SimpleQueue("urgent").get(timeout=QUICK)
        message.ack()
    assert message.properties["priority"] == 3
    assert message.headers["task"] == TASK
    assert message.payload[0] == [ID]
    assert ID not in message.headers["argsrepr"]
    assert message.headers["ignore_result"] is True


def test_the_settings_of_the_celery_app_are_left_as_they_are(
    celery: Celery, tell: CeleryWorkers
) -> None:
    before = dict(celery.conf.broker_transport_options)
    tell(ID)
    assert celery.conf.broker_transport_options == before


def test_what_the_celery_app_says_of_its_transport_counts(
    celery: Celery, tell: CeleryWorkers
) -> None:
    celery.conf.broker_transport_options = {"socket_timeout": 7.5, "confirm_publish": False}
    tell(ID)
    options = tell._producers.get().connections.connection.transport_options
    assert options["socket_timeout"] == 7.5
    assert options["confirm_publish"] is False


# --- names ----------------------------------------------------------------------------------------


def test_a_text_that_names_no_celery_app_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="write module:app"):
        CeleryWorkers("tasks")


def test_a_celery_app_that_is_not_there_is_told_when_it_is_needed() -> None:
    tell = CeleryWorkers("tests.runners.nowhere:celery")
    with pytest.raises(NotLoadedError, match=r"no module tests\.runners\.nowhere"):
        tell(ID)


def test_two_applications_have_two_tasks() -> None:
    celery = Celery("two", broker="memory://", set_as_current=False)
    add_task("one:app", celery, name="test.one")
    add_task("one:app", celery, name="test.one")  # imported twice
    add_task("two:app", celery, name="test.two")
    with pytest.raises(ConfigurationError, match=r"'test.one' runs 'one:app'"):
        add_task("two:app", celery, name="test.one")
    assert {"test.one", "test.two"} <= set(celery.tasks)


def test_the_task_is_acknowledged_early_and_has_no_time_limit() -> None:
    celery = Celery("limits", broker="memory://", set_as_current=False)
    celery.conf.update(task_acks_late=True, task_time_limit=5, task_soft_time_limit=4)
    add_task("limits:app", celery, name="test.limits")
    task = celery.tasks["test.limits"]
    assert (task.acks_late, task.ignore_result, task.max_retries) == (False, True, None)
    assert min(task.time_limit, task.soft_time_limit) > 365 * 24 * 3600


@pytest.mark.parametrize("limits", [(None, None), (5, None), (None, 4)])
def test_a_worker_keeps_timers_only_where_there_is_a_limit_to_lift(
    limits: tuple[int | None, int | None],
) -> None:
    """Of each task it has run, or its memory would grow."""
    celery = Celery("timers", broker="memory://", set_as_current=False)
    add_task("timers:app", celery, name="test.timers")
    worker = SimpleNamespace(app=celery, time_limit=limits[0], soft_time_limit=limits[1])
    signals.celeryd_after_setup.send(sender="worker", instance=worker, conf=celery.conf)
    task = celery.tasks["test.timers"]
    is_limited = task.time_limit is not None and task.soft_time_limit is not None
    assert is_limited is any(limits)


def test_a_shared_task_is_in_every_celery_app_made_before_or_after() -> None:
    before = Celery("before", broker="memory://", set_as_current=False)
    before.finalize()
    add_task("shared:app", name="test.shared")
    after = Celery("after", broker="memory://", set_as_current=False)
    assert "test.shared" in before.tasks
    assert "test.shared" in after.tasks
