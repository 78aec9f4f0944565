"""What the frozen records beside this file say. What is here changes only if a class is renamed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from raincheck.http.messages import Request
from raincheck.operations.operation import Operation, Progress, Reason, Result, State

NEW = Operation(
    id="8f14e45fceea167a5a36dedd4bea2543",
    state=State.ACCEPTED,
    created=1795000000.25,
    updated=1795000000.25,
    retention=86400.0,
    method="POST",
    route="/reports/ü",
    owner="anné",
    queue="nightly",
)
RESULT = Result(
    200,
    (
        (b"content-type", b"text/csv"),
        (b"x-bytes", b"\x00\xff"),
        (b"link", b"<a>"),
        (b"link", b"<b>"),
    ),
    length=300_000,
    chunk_size=262_144,
    fence=1,
    trailers=((b"x-sum", b"1"),),
)
RUNNING = replace(
    NEW,
    state=State.RUNNING,
    queue=None,
    version=2,
    updated=1795000001.5,
    fence=1,
    worker="2b67cafe",
    lease=1795000031.5,
)
MOVING = replace(
    RUNNING,
    version=3,
    updated=1795000011.5,
    lease=1795000041.5,
    progress=Progress(1.5, 3, "hälf ☃"),
)
CANCELLING = replace(MOVING, state=State.CANCELLING, version=4, updated=1795000012.0)
SUCCEEDED = replace(
    MOVING,
    state=State.SUCCEEDED,
    version=4,
    updated=1795000020.0,
    lease=None,
    expires=1795086420.0,
    progress=Progress(3, 3),
    result=RESULT,
)
FAILED = replace(
    RUNNING,
    state=State.FAILED,
    version=3,
    updated=1795000004.0,
    lease=None,
    expires=1795086404.0,
)
DISCARDED = replace(
    CANCELLING,
    state=State.CANCELLED,
    version=5,
    updated=1795000021.0,
    lease=None,
    expires=1795086421.0,
    reason=Reason.RESPONSE_DISCARDED,
)
# What was added to records while their version stayed 1, and what it is in those without it.
ADDED = {
    "form_token": None,
    "not_before": None,
    "started": None,
    "unbegun": 0,
    "application": None,
    "repeatable": False,
    "captured": False,
    "fingerprint": None,
    "coalesced": False,
    "webhook": None,
    "deliveries": 0,
    "polled": None,
    "unbound": False,
    "code": None,
}
CAPTURED = replace(
    NEW,
    repeatable=True,
    captured=True,
    fingerprint="b5bb9d8014a0f9b1",
    coalesced=True,
    webhook="https://example.com/hooks?a=ü",
    polled=1795000000.75,
)
OPERATIONS = {
    "accepted": NEW,
    "running": RUNNING,
    "running-with-progress": MOVING,
    "cancelling": CANCELLING,
    "succeeded": SUCCEEDED,
    "failed-by-status": replace(
        FAILED,
        updated=1795000003.0,
        expires=1795086403.0,
        result=Result(404, (), length=0, chunk_size=262_144, fence=1),
    ),
    "failed-by-status-with-error": replace(
        FAILED,
        updated=1795000003.0,
        expires=1795086403.0,
        result=Result(
            409,
            ((b"content-type", b"application/json"),),
            length=59,
            chunk_size=262_144,
            fence=1,
            error_code="Conflict",
            error_message="Fünf exist",
        ),
    ),
    **{
        f"failed-{reason.value}": replace(FAILED, reason=reason)
        for reason in Reason
        if reason is not Reason.RESPONSE_DISCARDED
    },
    "cancelled": replace(DISCARDED, reason=None),
    "cancelled-response_discarded": DISCARDED,
    "accepted-captured": CAPTURED,
    "accepted-unbound": replace(NEW, owner=None, unbound=True),
    "succeeded-with-webhook": replace(
        SUCCEEDED,
        version=5,
        repeatable=True,
        captured=True,
        webhook="https://example.com/hooks?a=ü",
        deliveries=2,
        lease=1795000050.5,
    ),
    "forgotten": replace(SUCCEEDED, version=5, forgotten=True, result=None, expires=1795086430.0),
}
REQUESTS = {
    "request-plain": Request("GET", "/"),
    "request": Request(
        method="POST",
        path="/reports/ü x",
        scheme="https",
        http_version="2",
        raw_path=b"/reports/%C3%BC%20x",
        query=b"a=%00&b=\xff",
        root_path="/v1",
        headers=(
            (b"content-type", b"text/plain"),
            (b"x-bytes", b"\x00\xff"),
            (b"cookie", b"a"),
            (b"cookie", b"b"),
        ),
        client=("::1", 4711),
        server=("/run/app.sock", None),
        length=1_048_577,
        chunk_size=262_144,
    ),
}


RECORDS = Path(__file__).parent
VERSION_1 = RECORDS / "version-1"


def frozen(name: str) -> str:
    return (VERSION_1 / f"{name}.json").read_text()


def parsed(text: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(text)
    return document
