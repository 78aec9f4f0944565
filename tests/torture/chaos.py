"""What is done to the servers and to the store, when, and that it is written down.

`schedule` is a pure function of its arguments: the same seed makes the same blows. Each kind of
blow is dealt like a card of a shuffled deck, so that a short run has a share of all of them.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.support.real_servers import RealServer
from tests.torture.journal import Journal
from tests.torture.servers import Fleet

STORE = -1  # the target of blows that hit the store
DECK = {"kill": 4, "freeze": 2, "freeze past the lease": 1, "restart": 2}
STORE_DECK = {"store restart": 1, "store crash": 1, "store pause": 1}
INTERVAL = 1.0  # seconds between blows, on average
QUIET = 1.0  # seconds at the beginning without any

Step = Callable[[], None]


@dataclass(frozen=True)
class Blow:
    """Something that is done.

    Attributes:
        at: Seconds since the beginning.
        target: The number of a process, or STORE.
        seconds: How long what is struck stays frozen, or away.
    """

    at: float
    action: str
    target: int
    seconds: float


def schedule(
    seed: int, duration: float, *, targets: int, lease: float, has_store_server: bool
) -> list[Blow]:
    """Return the blows of a run, in order of time; none is meant to last beyond its end."""
    chance = random.Random(f"chaos {seed}")  # noqa: S311 - no secret
    cards = _cards(chance, DECK | (STORE_DECK if has_store_server else {}))
    blows: list[Blow] = []
    at = QUIET
    while (at := at + chance.expovariate(1 / INTERVAL)) < duration:
        action = next(cards)
        target = STORE if action in STORE_DECK else chance.randrange(targets)
        seconds = _length(chance, action, lease)
        if at + seconds < duration:
            blows.append(Blow(at, action, target, seconds))
    return blows


def _cards(chance: random.Random, deck: dict[str, int]) -> Iterator[str]:
    while True:
        cards = [action for action, count in deck.items() for _ in range(count)]
        chance.shuffle(cards)
        yield from cards


def _length(chance: random.Random, action: str, lease: float) -> float:
    if action == "freeze past the lease":
        return chance.uniform(1.3, 1.8) * lease
    if action == "freeze":
        return chance.uniform(0.05, 0.25) * lease
    return chance.uniform(0.2, 1.5) if action in STORE_DECK else 0.0


class Conductor:
    """Carries blows out, and writes down when and to which process.

    Args:
        store: The store's server; None if it has none.
    """

    def __init__(self, fleet: Fleet, store: RealServer | None, journal: Journal) -> None:
        self._fleet = fleet
        self._store = store
        self._journal = journal
        self._struck: set[tuple[str, int]] = set()  # what is down, or frozen
        self._number = 0

    async def perform(self, blows: Sequence[Blow]) -> None:
        """Carry all of them out; returns when everything is up again."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for blow in blows:
                await asyncio.sleep(max(0.0, begun + blow.at - time.monotonic()))
                place = ("target", blow.target)
                pid = await self._pid(blow) if place not in self._struck else 0
                marks = {place, ("process", pid)}
                if not marks & self._struck:
                    self._struck |= marks
                    group.create_task(self._strike(blow, pid, marks))
        self._journal.write("calm")

    async def _pid(self, blow: Blow) -> int:
        if blow.target == STORE:
            return STORE
        return await asyncio.to_thread(self._fleet.pid, blow.target)

    async def _strike(self, blow: Blow, pid: int, marks: set[tuple[str, int]]) -> None:
        self._number += 1
        number = self._number
        hit, undo = self._store_steps(blow) if pid == STORE else self._steps(blow, pid)
        details = {"number": number, "pid": pid, "seconds": blow.seconds}
        self._journal.write("blow", action=blow.action, **details)
        await self._take(hit, number)
        await asyncio.sleep(blow.seconds)
        await self._take(undo, number)
        self._journal.write("over", number=number)
        self._struck -= marks

    async def _take(self, step: Step, number: int) -> None:
        try:
            await asyncio.to_thread(step)
        except (subprocess.TimeoutExpired, TimeoutError) as error:
            self._journal.write("stuck", number=number, error=str(error))

    def _steps(self, blow: Blow, pid: int) -> tuple[Step, Step]:
        fleet, target = self._fleet, blow.target
        if blow.action == "kill":
            return lambda: fleet.kill(target, pid), lambda: fleet.revive(target)
        if blow.action == "restart":
            return lambda: fleet.terminate(target, pid), lambda: fleet.revive(target)
        return lambda: fleet.freeze(pid), lambda: fleet.thaw(pid)

    def _store_steps(self, blow: Blow) -> tuple[Step, Step]:
        assert self._store is not None
        if blow.action == "store pause":
            return self._store.pause, self._store.resume
        hit = self._store.stop if blow.action == "store restart" else self._store.kill
        return hit, self._store.start
