"""Deferrals to test: requests and gateways that say what a test has them say."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from raincheck.config.policy import Candidate
from raincheck.engine.deferral import Deferral
from raincheck.engine.engine import Engine
from raincheck.engine.start import Captured
from raincheck.http.messages import Request
from raincheck.operations.operation import Operation
from tests.unit.engines import FaultyStore, Run, Time, make_engine


class Source:
    """A request that says what a test has it say."""

    def __init__(
        self,
        *askable: Any,
        body: tuple[bytes, ...] | None = (),
        user: str | None = None,
        is_authenticated: bool = False,
    ) -> None:
        self._askable = askable
        self._body = body
        self._user = user
        self.is_authenticated = is_authenticated

    def askable(self) -> Iterator[Any]:
        yield from self._askable

    def trusted_user(self) -> str | None:
        return self._user

    def describe(self) -> Request:
        return Request("POST", "/app/reports", root_path="/app")

    def body(self) -> tuple[bytes, ...] | None:
        return self._body

    def capture_request(self) -> Captured | None:
        return None


class Context:
    """A gateway, as far as a deferral needs one; `owner` names who is asked about."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def owner(self, source: Any) -> str | None:
        return source or None

    def webhook(self, source: Any) -> str | None:
        return f"https://hook.test/{source}" if source else None


def engine_on(store: FaultyStore, **options: Any) -> Engine:
    return make_engine(store, Time(), owner=lambda source: source or None, **options)


def make(
    engine: Engine, source: Source | None = None, budget: float = 2, **options: Any
) -> Deferral:
    lock = threading.RLock()
    return Deferral(
        Context(engine),
        Candidate(budget, **options.pop("candidate", {})),
        "POST",
        "/reports",
        source or Source(""),
        lock=lock,
        wake=lambda: None,
        **options,
    )


def record(deferral: Deferral) -> Operation:
    deferral.hold()
    return deferral.record(Run(), deferral.prepare()).operation


def attached(deferral: Deferral) -> Operation:
    operation = record(deferral)
    assert deferral.attach(operation) is not None
    return operation
