"""What a client does with a 202, and what it may expect of the answers."""

from __future__ import annotations

import hashlib
import re
import time
from typing import Any

import httpx

from tests.gateways.gateways import TIMEOUT, Site
from tests.gateways.transcript import OWN
from tests.support.polling import poll

ASK = {"Prefer": "respond-async"}
PROBLEM = "application/problem+json"
ANSWERS = [
    *("/fast", "/binary", "/streaming", "/cookies"),
    *("/status?code=503", "/status?code=204", "/status?code=303"),
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
Pairs = list[tuple[bytes, bytes]]
# On R and not on the bare path, or the other way round, as `examples/wire.md` has it.
ADDED = {name.encode() for name in OWN}
DROPPED = {b"date", b"connection", b"keep-alive", b"transfer-encoding"}


def start(client: httpx.Client, path: str, **options: Any) -> httpx.Response:
    """Ask for a request to be deferred."""
    method, headers = options.pop("method", "GET"), {**ASK, **options.pop("headers", {})}
    accepted = client.request(method, path, headers=headers, **options)
    assert accepted.status_code == 202, accepted.text
    return accepted


def end(client: httpx.Client, accepted: httpx.Response) -> httpx.Response:
    """Poll R until the handler's response is there."""
    return poll(client, accepted.headers["location"], timeout=TIMEOUT)


def status(client: httpx.Client, accepted: httpx.Response) -> dict[str, Any]:
    """Read M."""
    response = client.get(accepted.headers["operation-location"])
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def cancelled(client: httpx.Client, accepted: httpx.Response) -> None:
    """Cancel an operation and wait until it is."""
    assert client.delete(accepted.headers["location"]).status_code == 202
    assert end(client, accepted).status_code == 410


def until(client: httpx.Client, accepted: httpx.Response, member: str, value: object) -> None:
    """Wait until M says so; what handlers say in another process comes within a second or so."""
    deadline = time.monotonic() + TIMEOUT
    while (document := status(client, accepted)).get(member) != value:
        assert time.monotonic() < deadline, document
        time.sleep(0.02)


# --- what answers must look like ---------------------------------------------------------------


def assert_accepted(response: httpx.Response, state: str = "running") -> None:
    """Check a 202, at the start or at R, to the letter."""
    assert response.status_code == 202
    fields, document = response.headers, response.json()
    [base] = re.findall(r"^http://127\.0\.0\.1:\d+", str(response.request.url))
    location = f"{base}/operations/{document['id']}"
    assert re.fullmatch("[0-9a-f]{32}", document["id"])
    assert fields["location"] == fields["content-location"] == location
    assert fields["operation-location"] == f"{location}/status"
    assert fields["link"] == f'<{location}/status>; rel="status"'
    assert int(fields["retry-after"]) >= 1
    assert fields["cache-control"] == "no-store"
    assert fields["content-type"] == "application/json"
    assert int(fields["content-length"]) == len(response.content)
    assert_document(document, state)


def assert_document(document: dict[str, Any], state: str) -> None:
    """Check a status document."""
    path = f"/operations/{document['id']}"
    assert document["status"] == state
    assert TIME.fullmatch(document["created"])
    assert TIME.fullmatch(document["updated"])
    assert document["links"] == {
        "response": path,
        "status": f"{path}/status",
        "result": f"{path}/result",
    }


def assert_problem(response: httpx.Response, code: int, name: str) -> None:
    """Check a refusal (RFC 9457)."""
    assert (response.status_code, response.headers["content-type"]) == (code, PROBLEM)
    assert response.headers["cache-control"] == "no-store"
    document = response.json()
    assert (document["status"], document["code"]) == (code, name)
    assert {"type", "title", "detail"} < document.keys()


def fields_of(response: httpx.Response, *without: bytes) -> Pairs:
    """Return the raw header fields, in order, but for those that belong to one connection."""
    return [
        (name, value)
        for name, value in response.headers.raw
        if name.lower() not in DROPPED and name.lower() not in without
    ]


def assert_same_but_for_own(replayed: httpx.Response, bare: httpx.Response) -> None:
    """Check that R gives the handler's own response: its status, fields in order, and bytes."""
    own = ADDED - {name.lower() for name, _ in bare.headers.raw} | {b"set-cookie"}
    if "content-length" not in bare.headers:
        own |= {b"content-length"}
    assert replayed.status_code == bare.status_code
    assert replayed.content == bare.content
    assert fields_of(replayed, *own) == fields_of(bare, b"set-cookie")


def assert_upload_over_the_limit_arrives(site: Site, variant: str, sent: bytes) -> None:
    """Check that it is not deferred, unless the handler reads it before the budget is over."""
    with site.client(variant) as client:
        response = client.post("/echo", content=sent, headers=ASK)
        if response.status_code == 202 and not site.gateway.reads_ahead:
            response = end(client, response)
        assert_echo(response, sent)


def assert_echo(response: httpx.Response, sent: bytes) -> None:
    """Check that all of an upload was seen, and is sent back."""
    assert response.status_code == 200
    assert response.headers["x-seen"] == hashlib.sha256(sent).hexdigest()
    assert response.content == sent
