"""Thousands of clients that wait for an operation, or listen to it, on one real server."""

from __future__ import annotations

import pytest

from tests.benchmarks import listeners
from tests.benchmarks.asgi_load import request
from tests.benchmarks.pollers import (
    OTHER_FILES,
    allow_files,
    clients,
    connect,
    fetch,
    measure,
    serve,
    until_waiting,
)

pytestmark = [pytest.mark.server, pytest.mark.slow, pytest.mark.asyncio]

MANY = 10_000
SOME = 2_000
EACH_AT_MOST = 40  # KiB of resident memory
LISTENING_AT_MOST = 24  # KiB; of which ten are the server's own
AT_LEAST_BESIDE = 10  # fast requests that are answered while thousands are


@pytest.fixture(autouse=True)
def _files() -> None:
    if allow_files() < MANY + OTHER_FILES:
        pytest.skip(f"{MANY} connections need more open files than this system allows")


@pytest.mark.parametrize(("store", "many"), [("memory", MANY), ("sqlite", SOME)])
async def test_thousands_of_waiting_clients_are_all_answered_and_starve_nobody(
    store: str, many: int
) -> None:
    with serve(store) as server:
        await measure(server, 100, 0.5, apart=False)  # whatever there is once for all is there
        figures = await measure(server, many, 1.0, apart=False)
        assert len(figures.answers) == many
        assert figures.memory < EACH_AT_MOST
        for _ in range(2):  # if this process got no turn meanwhile, it could not ask beside them
            if len(figures.busy) <= AT_LEAST_BESIDE:
                figures = await measure(server, many, 0.1, apart=False)
    assert len(figures.answers) == many
    assert len(figures.busy) > AT_LEAST_BESIDE


async def test_of_thousands_of_clients_that_leave_nothing_stays() -> None:
    with serve("memory") as server:
        other = await connect(server.port)
        path = (await fetch(other, "/work/endless")).decode()
        async with clients(server.port, [request(path, "Prefer: wait=600")] * SOME):
            await until_waiting(other, SOME)
        await until_waiting(other, 0)
        assert await fetch(other, "/fast")
        other.leave()


async def test_thousands_who_listen_are_all_told_and_starve_nobody() -> None:
    """One more of them never reads; and each costs little more than its connection."""
    with serve("memory", "listeners") as server:
        await listeners.measure(server, 100, 1)
        figures = await listeners.measure(server, MANY, 3)
    assert [len(told) for told in figures.told] == [MANY] * 3
    assert len(figures.ended) == MANY
    assert figures.memory < LISTENING_AT_MOST
    assert figures.growth < 1
    assert len(figures.busy) > AT_LEAST_BESIDE
