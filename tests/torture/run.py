"""One run: servers, clients and chaos together, then the sweep, then the look at what is left."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from tests.support.real_servers import PostgreSQLServer, RealServer, RedisServer
from tests.torture import leftovers
from tests.torture.bystander import standing_by
from tests.torture.chaos import Conductor, schedule
from tests.torture.checker import Violation, check
from tests.torture.clients import Board, Client, Wire, sweep
from tests.torture.evidence import SLOW, Evidence, Facts, load
from tests.torture.journal import CHAOS, CLIENTS, FACTS, Journal
from tests.torture.servers import FLEETS, KINDS, PROCESSES, Fleet, Surroundings

STORES = ("sqlite", "redis", "postgresql")
SERVERS = KINDS
CLIENT_COUNT = 20
OWNERS = 5
MAX_ATTEMPTS = 3
ANSWERS = 30.0  # seconds in which a server that has nothing to do answers
POKE = 0.25  # seconds between looks at what is left


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        seconds: How long the chaos lasts.
        lease: Seconds; raincheck's is 30, and only a long run would see it expire.
        retention: Seconds that responses stay readable.
        directory: For logs and data; must be empty.
    """

    store: str
    server: str
    seed: int
    seconds: float
    directory: Path
    lease: float = 5.0
    retention: float = 12.0

    @property
    def bound(self) -> float:
        """Seconds after the last blow in which everything must have ended."""
        return 15 + 2.5 * self.lease

    @property
    def facts(self) -> Facts:
        """What the checker is told."""
        return Facts(
            seed=self.seed,
            store=self.store,
            lease=self.lease,
            max_attempts=MAX_ATTEMPTS,
            retention=self.retention,
            bound=self.bound,
        )

    @property
    def options(self) -> dict[str, Any]:
        """Raincheck's."""
        return {
            "budget": 0.3,
            "drain": 1.0,
            "retention": self.retention,
            "max_attempts": MAX_ATTEMPTS,
            "max_wait": 1.0,
            "limits": {"operations": 12},
            **({"runners": {"/**": "workers"}} if self.server == "workers" else {}),
        }

    @property
    def constants(self) -> dict[str, float]:
        """What is scaled with the lease, so that it holds the same place in a shorter run."""
        scale = self.lease / 30
        return {
            "LEASE": self.lease,
            "LONG_LEASE": self.lease,
            "GAP": self.lease / 2,
            "STEADY": self.lease / 2,
            "BEAT": max(0.25, scale),
            "RECOVER": max(0.5, 5 * scale),
            "PURGE": 2.0,
        }

    @property
    def command(self) -> str:
        """What runs the same again."""
        names = ("store", "server", "seed", "seconds", "lease")
        return "python -m tests.torture " + " ".join(f"--{n} {getattr(self, n)}" for n in names)


def plan_for(store: str, server: str, *given: Any, **more: Any) -> Plan:
    """Return a plan in which workers that begin have the time to take up what waits for them."""
    waits: dict[str, Any] = {"retention": 30.0} if server == "workers" else {}
    return Plan(store, server, *given, **waits | more)


@dataclass(frozen=True)
class Report:
    """What came of a run."""

    plan: Plan
    figures: dict[str, int]
    violations: list[Violation]

    def text(self) -> str:
        """Describe what was broken, and how to see it again."""
        shown = [f"  {violation}" for violation in self.violations[:40]]
        more = len(self.violations) - len(shown)
        tail = [f"  … and {more} more"] if more else []
        head = f"{len(self.violations)} violations; logs in {self.plan.directory}; repeat with:"
        return "\n".join([head, f"  {self.plan.command}", *shown, *tail])


def torture(plan: Plan) -> Report:
    """Carry a plan out."""
    with _store_server(plan.store) as server:
        asyncio.run(_Torture(plan, server).perform())
    evidence = load(plan.directory)
    violations = check(evidence)
    return Report(plan, figures(evidence) | {"violations": len(violations)}, violations)


@contextmanager
def _store_server(store: str) -> Iterator[RealServer | None]:
    if store == "sqlite":
        yield None
        return
    # What it has answered must not be lost with it, or its promises could not be kept by anybody.
    with RedisServer(fsync="always") if store == "redis" else PostgreSQLServer() as server:
        yield server


class _Torture:
    def __init__(self, plan: Plan, server: RealServer | None) -> None:
        self._plan = plan
        self._server = server
        self._database = plan.directory / "operations.db"
        url = f"{server.url}?timeout=1" if server else f"sqlite://{self._database}"
        self._surroundings = Surroundings(plan.directory, url, plan.options, plan.constants)
        self._board = Board()

    @property
    def _place(self) -> Path | str:
        return self._server.url if self._server else self._database

    async def perform(self) -> None:
        journal = Journal(self._plan.directory / CLIENTS)
        try:
            with FLEETS[self._plan.server](self._surroundings) as fleet:
                await self._let_loose(fleet, journal)
                left = await self._retire(fleet)
            left |= await self._leave_in_peace()
        finally:
            journal.close()
        records = leftovers.records(self._plan.store, self._place)
        claims = {record["id"]: record.get("fence", 0) for record in records}
        claimants = {record["id"]: _pid_in(record.get("worker")) for record in records}
        facts = replace(self._plan.facts, left=left, claims=claims, claimants=claimants)
        (self._plan.directory / FACTS).write_text(json.dumps(asdict(facts)))

    async def _let_loose(self, fleet: Fleet, journal: Journal) -> None:
        chaos = Journal(self._plan.directory / CHAOS)
        wire = Wire(fleet.urls, journal)
        end = time.monotonic() + self._plan.seconds
        with standing_by(self._server, chaos):
            async with asyncio.TaskGroup() as group:
                for n in range(CLIENT_COUNT):
                    owner = f"owner-{n % OWNERS}"
                    client = Client(f"c{n}", owner, wire, self._board, self._plan.seed)
                    group.create_task(client.live(end))
                conductor = Conductor(fleet, self._server, chaos)
                group.create_task(conductor.perform(self._blows()))
            await sweep(wire, self._board, self._plan.bound)
        await wire.close()
        chaos.close()

    def _blows(self) -> Any:
        return schedule(
            self._plan.seed,
            self._plan.seconds,
            targets=PROCESSES[self._plan.server],
            lease=self._plan.lease,
            has_store_server=self._server is not None,
        )

    async def _retire(self, fleet: Fleet) -> leftovers.Left:
        """Have the servers end, and name the temporary files that they held till then."""
        files = await asyncio.to_thread(self._files_at_last, fleet)
        ends = await asyncio.to_thread(fleet.end)
        return {"temporary files of idle servers": files, "servers that did not end": ends}

    def _files_at_last(self, fleet: Fleet) -> list[str]:
        """Wait for the ends of what nobody has heard of, which may still run."""
        end = time.monotonic() + self._plan.bound
        while (files := self._files(fleet)) and time.monotonic() < end:
            time.sleep(POKE)
        return files

    async def _leave_in_peace(self) -> leftovers.Left:
        """Let fresh servers purge what has expired, and name what they leave.

        Leftovers that no record refers to are kept for an hour, lest they belong to something that
        is about to be recorded. Nothing is, now.
        """
        constants = {**self._plan.constants, "LEFTOVER_AGE": 1.0, "PURGE": 0.5}
        surroundings = replace(self._surroundings, constants=constants)
        with FLEETS[self._plan.server](surroundings) as fleet:
            end = time.monotonic() + self._plan.retention + self._plan.bound
            mute: list[str] = []
            while any((left := self._left(fleet)).values()) and time.monotonic() < end:
                mute += await self._poke(fleet)
            return left | {"servers that did not answer": mute}

    def _left(self, fleet: Fleet) -> leftovers.Left:
        left = leftovers.in_store(self._plan.store, self._place)
        return left | {"temporary files": self._files(fleet)}

    def _files(self, fleet: Fleet) -> list[str]:
        return leftovers.on_disk(self._surroundings.temporary, fleet.pids())

    async def _poke(self, fleet: Fleet) -> list[str]:
        """Give each process a reason to keep house, and return those that do not answer."""
        mute = []
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWERS) as client:
            for url in fleet.urls:
                try:
                    await client.get(f"{url}/operations/nobody-s")
                except httpx.TransportError as error:
                    mute.append(f"{url}: {error!r}")
        await asyncio.sleep(POKE)
        return mute


def _pid_in(worker: str | None) -> int:
    """Return whose name this is; 0 where the store gives names that do not say so."""
    pid, dash, _ = (worker or "").partition("-")
    return int(pid) if dash and pid.isdecimal() else 0


def figures(evidence: Evidence) -> dict[str, int]:
    """Return what a run consisted of."""
    calls, actions = evidence.calls, Counter(blow.action for blow in evidence.blows)
    right = [c for c in calls if c.is_of_handler and c.purpose in ("start", "poll")]
    ends = [calls for calls in evidence.operations.values() if calls]
    return {
        "requests": sum(c.purpose == "start" for c in calls),
        "lost": sum(c.purpose == "start" and c.status is None for c in calls),
        "refused": sum(c.purpose == "start" and c.status in (429, 503) for c in calls),
        "202s": sum(c.purpose == "start" and c.operation is not None for c in calls),
        "operations": len(evidence.operations),
        "polls": sum(c.purpose in ("poll", "status") for c in calls),
        "spied": sum(c.purpose == "spy" for c in calls),
        "kills": actions["kill"],
        "stops": actions["freeze"] + actions["freeze past the lease"],
        "restarts": actions["restart"],
        "store": sum(blow.pid == -1 and blow.action != SLOW for blow in evidence.blows),
        "re-runs": sum(e.event == "begin" and e.is_rerun for e in evidence.effects),
        "interrupted": sum(any(c.code in ("interrupted", "shutdown") for c in o) for o in ends),
        "cancelled": sum(any(c.state == "canceled" for c in o) for o in ends),
        "KB verified": sum(c.length for c in right) // 1024,
    }
