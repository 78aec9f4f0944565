"""Clients of several processes: each fetches a response of its own, whichever process answers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from tests.servers.material import content
from tests.servers.servers import DEFERRED, http_client, status, wait_until

AT_ONCE = 24


def wandering_client() -> httpx.Client:
    """Return a client that makes a new connection for each request: any worker may take it."""
    return http_client(limits=httpx.Limits(max_keepalive_connections=0, max_connections=AT_ONCE))


@dataclass(frozen=True)
class Report:
    """What one request came to.

    Attributes:
        is_right: Whether the body is, byte for byte, what the handler makes.
        ran_by: The process that ran the handler.
        served_by: The process that answered with its response.
    """

    start: int
    end: int
    is_right: bool
    ran_by: str
    served_by: str


def follow(client: httpx.Client, url: str, seed: int) -> Report:
    """Have one response made and fetch it as a patient client would."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    size, seconds = chance.randrange(6, 150_000), chance.uniform(0.2, 0.4)
    query = DEFERRED | {"seed": seed, "size": size, "seconds": seconds}
    start = response = _get(client, f"{url}/slow", query)
    deadline = time.monotonic() + 60
    while response.status_code == 202 and time.monotonic() < deadline:
        time.sleep(0.1)
        response = _get(client, start.headers["location"])
    return Report(
        start=start.status_code,
        end=response.status_code,
        is_right=response.content == content(seed, size),
        ran_by=response.headers.get("x-ran-by", ""),
        served_by=response.headers["x-answered-by"],
    )


def _get(client: httpx.Client, url: str, query: dict[str, float] | None = None) -> httpx.Response:
    """Ask, and once more if nothing came: uwsgi closes one of some thousands, by itself, too."""
    try:
        return client.get(url, params=query)
    except (httpx.RemoteProtocolError, httpx.ReadError):
        return client.get(url, params=query)


def follow_many(
    client: httpx.Client,
    url: str,
    requests: int,
    is_enough: Callable[[list[Report]], bool] = lambda reports: True,
) -> list[Report]:
    """Do so for many, several at once.

    Args:
        is_enough: Whether they tell what they are to tell; on a busy machine one process may get
            no turn for so long that the others serve all of them, and then some more are made.
    """
    reports = list[Report]()
    deadline = time.monotonic() + 60
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while not reports or (not is_enough(reports) and time.monotonic() < deadline):
            seeds = range(len(reports), len(reports) + (2 * AT_ONCE if reports else requests))
            reports += pool.map(lambda seed: follow(client, url, seed), seeds)
    return reports


def wait_for_workers(client: httpx.Client, url: str, workers: int) -> None:
    """Wait until so many serve: a server accepts connections when the first one does."""
    seen = set[str]()

    def are_there() -> bool:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for answer in pool.map(
                lambda _: _get(client, f"{url}/operations/none"), range(AT_ONCE)
            ):
                seen.add(answer.headers["x-answered-by"])
        return len(seen) >= workers

    wait_until(are_there, f"{workers} processes answer", 60)


def start_on_all(client: httpx.Client, url: str, workers: int) -> dict[str, list[httpx.Response]]:
    """Have several operations run that don't end, on each of so many workers."""
    wait_for_workers(client, url, workers)
    started: dict[str, list[httpx.Response]] = {}
    while len(started) < workers or min(map(len, started.values())) < 3:
        response = client.get(f"{url}/blocked")
        assert response.status_code == 202
        started.setdefault(response.headers["x-answered-by"], []).append(response)
        assert sum(map(len, started.values())) < 600, "one worker answers nothing"
    return started


def outcome(client: httpx.Client, start: httpx.Response) -> str:
    """Say what M says: the state, or why it failed."""
    document = status(client, start)
    return str(document.get("error", {}).get("code", document["status"]))


def wait_for_outcome(client: httpx.Client, start: httpx.Response, expected: str) -> None:
    """Poll M until it says so."""
    wait_until(lambda: outcome(client, start) == expected, f"{start.url} is {expected}")
