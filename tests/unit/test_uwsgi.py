"""A uwsgi that freezes threads after the response must not be promised anything."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from raincheck.wsgi import RaincheckMiddleware
from raincheck.wsgi.uwsgi import freezes_threads
from tests.support.wsgi import call

OLD, NEW = (2, 0, 26, 0, ""), (2, 0, 27, 0, "")


def pretend(monkeypatch: pytest.MonkeyPatch, version: Any, **options: Any) -> None:
    """Stand in for the module that only a uwsgi process has."""
    opt = {name.replace("_", "-").encode(): value for name, value in options.items()}
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(version_info=version, opt=opt))


@pytest.mark.parametrize("flag", ["enable_threads", "threads"])
def test_an_old_uwsgi_runs_threads_if_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    pretend(monkeypatch, OLD, **{flag: True})
    assert not freezes_threads()


def test_an_old_uwsgi_freezes_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, OLD, master=True)
    assert freezes_threads()


def test_a_newer_uwsgi_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, NEW)
    assert not freezes_threads()


def test_other_servers_do_not() -> None:
    assert not freezes_threads()


def test_nothing_is_deferred_where_threads_freeze(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pretend(monkeypatch, OLD)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"done"]

    wrapped = RaincheckMiddleware(app, store="memory:", budget=0)
    assert [call(wrapped).status for _ in range(2)] == [200, 200]
    assert caplog.text.count("--enable-threads") == 1
