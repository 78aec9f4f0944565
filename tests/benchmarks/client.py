"""What following costs a response that is none to follow: `python -m tests.benchmarks.client`.

Each request goes through the whole of httpx or requests, against a transport that answers from
memory: the least that a request can cost, so that the share of following is the largest.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from raincheck.client import Adapter, Transport
from tests.benchmarks.tables import Scale, Table, less, parser, ratio

REQUESTS = 30
FIELDS = {
    **{"content-type": "application/json", "content-length": "2", "server": "uvicorn"},
    **{"date": "Mon, 30 Nov 2026 21:00:00 GMT", "vary": "Accept", "etag": '"1"', "x-id": "7"},
}


class Memory(httpx.BaseTransport):
    """Answers 200 at once."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer."""
        return httpx.Response(200, headers=FIELDS, stream=httpx.ByteStream(b"{}"))


class MemoryAdapter(BaseAdapter):
    """Answers 200 at once."""

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:  # type: ignore[override]
        """Answer."""
        response = requests.Response()
        response.status_code, response.url = 200, request.url or ""
        response.raw = HTTPResponse(io.BytesIO(b"{}"), FIELDS, preload_content=False)
        return response

    def close(self) -> None:
        """Have nothing to close."""


@contextmanager
def through_httpx(transport: httpx.BaseTransport) -> Iterator[Callable[[], object]]:
    """Ask with httpx."""
    with httpx.Client(transport=transport) as client:
        yield lambda: client.get("https://api.example/")


@contextmanager
def through_requests(adapter: BaseAdapter) -> Iterator[Callable[[], object]]:
    """Ask with requests."""
    with requests.Session() as session:
        session.mount("https://", adapter)
        session.trust_env = False
        yield lambda: session.get("https://api.example/")


def seconds(ask: Callable[[], object]) -> float:
    """Return what one request takes."""
    start = time.perf_counter()
    for _ in range(REQUESTS):
        ask()
    return (time.perf_counter() - start) / REQUESTS


def compare(
    table: Table,
    rounds: int,
    name: str,
    bare: Callable[[], object],
    following: Callable[[], object],
) -> None:
    """Print both, measured in turns."""
    pairs = [(seconds(bare), seconds(following)) for _ in range(rounds)]
    without, within = (statistics.median(column) for column in zip(*pairs, strict=True))
    of_bare = ratio((b for _, b in pairs), (a for a, _ in pairs), "less", ".3f")
    table.row(name, less(without * 1e6), less(within * 1e6), of_bare)


def main() -> None:
    """Print the table."""
    rounds = Scale(quick=parser("client", __doc__).parse_args().quick).of(300, 50)
    columns = ("library", "bare, us", "following, us", "ratio")
    table = Table("Clients that follow", *columns, detail=f"{rounds} rounds")
    with through_httpx(Memory()) as bare, through_httpx(Transport(Memory())) as following:
        compare(table, rounds, "httpx", bare, following)
    with (
        through_requests(MemoryAdapter()) as bare,
        through_requests(Adapter(MemoryAdapter())) as following,
    ):
        compare(table, rounds, "requests", bare, following)


if __name__ == "__main__":
    main()
