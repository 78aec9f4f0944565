"""The clients: what they ask for, and how they misbehave. Each call and its outcome is logged.

A call is written down before it is sent, and again when it is answered or lost, so that the log
also tells of what nobody heard an answer to.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.torture.journal import Journal
from tests.torture.work import Work

PATIENCE = 3.0  # seconds after which a client gives up on a connection
TRIES = 8  # of a request with a key
TERMINAL = frozenset({"succeeded", "failed", "canceled"})
KEPT = ("content-type", "operation-status", "retry-after", "allow", "location")
SIZES = (0, 1, 1_000, 65_535, 65_536, 300_000, 2_500_000)
SIZE_WEIGHTS = (2, 2, 8, 2, 2, 2, 1)


@dataclass(frozen=True)
class Answer:
    """What a client was answered.

    Attributes:
        state: What it says of an operation's state, if it does.
        operation: The path of R, where the answer is a 202.
    """

    status: int
    state: str | None
    operation: str | None

    @property
    def is_final(self) -> bool:
        """Whether nothing else will ever be said of the operation (or there is none)."""
        return self.state in TERMINAL or self.status in (404, 410)


@dataclass
class Board:
    """What clients know together: the operations of all, and those that nobody follows."""

    known: list[tuple[str, str, str]] = field(default_factory=list)  # rid, R, owner
    open: dict[str, tuple[str, str]] = field(default_factory=dict)  # R: rid, owner


class Wire:
    """Sends requests and logs them.

    Args:
        urls: The servers.
    """

    def __init__(self, urls: Sequence[str], journal: Journal) -> None:
        self._urls = urls
        self._journal = journal
        self._number = itertools.count(1)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        self._client = httpx.AsyncClient(timeout=PATIENCE, trust_env=False, limits=limits)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def server(self, chance: random.Random) -> int:
        """Choose a server."""
        return chance.randrange(len(self._urls))

    async def call(
        self,
        purpose: str,
        server: int,
        method: str,
        path: str,
        *,
        owner: str,
        headers: dict[str, str] | None = None,
        content: bytes = b"",
        patience: float = PATIENCE,
        **notes: Any,
    ) -> Answer | None:
        """Send a request; None if no answer came, or none was waited for."""
        number = next(self._number)
        what = {"purpose": purpose, "server": server, "method": method, "path": path}
        extra = {"headers": headers or {}, "owner": owner, **notes}
        self._journal.write("sent", call=number, **what, **extra)
        request = self._client.build_request(
            method,
            self._urls[server] + path,
            headers={"authorization": f"Bearer {owner}", **(headers or {})},
            content=content,
        )
        try:
            async with asyncio.timeout(patience):
                response = await self._client.send(request)
        except (httpx.TransportError, TimeoutError) as error:
            self._journal.write("lost", call=number, error=f"{type(error).__name__}: {error}")
            return None
        return self._note(number, response)

    def _note(self, number: int, response: httpx.Response) -> Answer:
        document = _document(response)
        is_accepted = response.status_code == 202 and "operation-location" in response.headers
        path = urlsplit(response.headers["location"]).path if is_accepted else None
        state = response.headers.get("operation-status") or document.get("status")
        state = state if isinstance(state, str) else None
        self._journal.write(
            "answered",
            call=number,
            status=response.status_code,
            state=state,
            operation=path,
            code=document.get("code") or document.get("error", {}).get("code"),
            pid=int(response.headers.get("x-answered-by", 0)),
            length=len(response.content),
            digest=hashlib.sha256(response.content).hexdigest(),
            fields=_fields(response),
        )
        return Answer(response.status_code, state, path)


def _document(response: httpx.Response) -> dict[str, Any]:
    if not response.content or "json" not in response.headers.get("content-type", ""):
        return {}
    document = response.json()
    return document if isinstance(document, dict) else {}


def _fields(response: httpx.Response) -> list[tuple[str, str]]:
    pairs = [(name.lower(), value) for name, value in response.headers.multi_items()]
    return [(name, value) for name, value in pairs if name in KEPT or name.startswith("x-")]


class Client:
    """One client, with a mind of its own that the seed decides."""

    def __init__(self, name: str, owner: str, wire: Wire, board: Board, seed: int) -> None:
        self._name = name
        self._owner = owner
        self._wire = wire
        self._board = board
        self._chance = random.Random(f"client {seed} {name}")  # noqa: S311 - no secret
        self._count = itertools.count(1)

    async def live(self, end: float) -> None:
        """Go on until then, by the monotonic clock."""
        habits: dict[Callable[[], Awaitable[None]], int] = {
            self._follow: 10,
            self._leave: 2,
            self._abandon: 2,
            self._cancel: 4,
            self._insist: 5,
            self._spy: 6,
        }
        while time.monotonic() < end:
            [habit] = self._chance.choices(list(habits), list(habits.values()))
            await habit()
            await asyncio.sleep(self._chance.uniform(0, 0.2))

    # --- what a client does ------------------------------------------------------------------

    async def _follow(self) -> None:
        """Ask, and poll until the end."""
        answer = await self._start(self._any_work())
        await self._poll_to_the_end(answer)

    async def _leave(self) -> None:
        """Ask, and drop the connection."""
        await self._start(self._any_work(), patience=self._chance.uniform(0.0, 0.6))

    async def _abandon(self) -> None:
        """Ask, and never poll; that is left to the end of the run."""
        await self._start(self._any_work())

    async def _cancel(self) -> None:
        """Ask for something that takes long, and cancel it."""
        route = self._chance.choice(["work", "thread", "checks", "never", "again"])
        method = "POST" if route in ("again", "checks", "never") else self._chance.choice(_METHODS)
        work = replace(self._work(route, method), seconds=self._chance.uniform(0.8, 3.0))
        answer = await self._start(work)
        if answer is None or answer.operation is None:
            return
        await asyncio.sleep(self._chance.uniform(0, 2.0))
        await self._ask("cancel", "DELETE", work.rid, answer.operation)
        await self._poll_to_the_end(answer)

    async def _insist(self) -> None:
        """Ask under a key until an answer comes, whatever happens on the way."""
        work = self._work("once" if self._chance.random() < 0.8 else "again", "POST")
        answer = None
        for _ in range(TRIES):
            patience = self._chance.uniform(0.05, 0.8) if self._chance.random() < 0.5 else PATIENCE
            answer = await self._start(work, key=work.rid, patience=patience)
            if answer is not None and answer.status not in (429, 503):
                break
            await asyncio.sleep(self._chance.uniform(0, 0.3))
        else:
            return
        if self._chance.random() < 0.3:
            await asyncio.gather(*(self._start(work, key=work.rid) for _ in range(2)))
        if self._chance.random() < 0.2:
            await self._start(replace(work, seed=work.seed + 1), key=work.rid, is_variant=True)
        await self._poll_to_the_end(answer)
        if self._chance.random() < 0.3:
            await self._start(work, key=work.rid)

    async def _spy(self) -> None:
        """Ask for what belongs to somebody else, and for what never was."""
        others = [known for known in self._board.known[-200:] if known[2] != self._owner]
        if not others:
            return
        rid, path, _ = self._chance.choice(others)
        suffix = self._chance.choice(["", "", "/status", "/result"])
        method = self._chance.choice(["GET", "GET", "HEAD", "DELETE"]) if not suffix else "GET"
        headers = {"prefer": "wait=1"} if self._chance.random() < 0.2 else {}
        await self._ask("spy", method, rid, path + suffix, headers)
        if self._chance.random() < 0.2:
            parent = path.rpartition("/")[0]
            await self._ask("nobody's", "GET", rid, f"{parent}/{self._chance.randbytes(16).hex()}")

    # --- its means ---------------------------------------------------------------------------

    def _any_work(self) -> Work:
        route = self._chance.choices(
            ["work", "thread", "again", "checks", "never", "fail"], [8, 3, 3, 2, 2, 1]
        )[0]
        method = self._chance.choice(_METHODS) if route in ("work", "thread") else "POST"
        return self._work(route, method)

    def _work(self, route: str, method: str) -> Work:
        chance = self._chance
        [size] = chance.choices(SIZES, SIZE_WEIGHTS)
        is_long = chance.random() < 0.7
        takes_body = route in ("work", "again", "once") and method != "GET"
        return Work(
            rid=f"{self._name}-{next(self._count)}",
            route=route,
            method=method,
            seed=chance.randrange(1 << 30),
            seconds=chance.uniform(0.3, 2.0) if is_long else chance.uniform(0, 0.3),
            size=size,
            status=chance.choices([200, 201, 404, 409], [12, 2, 1, 1])[0],
            parts=chance.choice([1, 1, 5]),
            pause=chance.uniform(0, 0.5),
            upload=chance.choice([0, 100, 70_000, 1_500_000]) if takes_body else 0,
        )

    async def _start(
        self,
        work: Work,
        *,
        key: str | None = None,
        is_variant: bool = False,
        patience: float = PATIENCE,
    ) -> Answer | None:
        headers = {"idempotency-key": f'"{key}"'} if key else {}
        if random.Random(work.rid).random() < 0.3:  # noqa: S311 - the same in each try
            headers["prefer"] = "respond-async"
        answer = await self._wire.call(
            "start",
            self._wire.server(self._chance),
            work.method,
            work.path,
            owner=self._owner,
            headers=headers,
            content=work.uploaded,
            patience=patience,
            rid=work.rid,
            work=work.as_json(),
            key=key,
            is_variant=is_variant,
        )
        if answer is not None and answer.operation is not None:
            self._board.known.append((work.rid, answer.operation, self._owner))
            self._board.open[answer.operation] = (work.rid, self._owner)
        return answer

    async def _ask(
        self, purpose: str, method: str, rid: str, path: str, headers: dict[str, str] | None = None
    ) -> Answer | None:
        server = self._wire.server(self._chance)
        return await self._wire.call(
            purpose, server, method, path, owner=self._owner, headers=headers, rid=rid
        )

    async def _poll_to_the_end(self, start: Answer | None) -> None:
        """Poll what was deferred until it has ended, for a while; the rest is left to the sweep."""
        if start is None or start.operation is None or start.operation not in self._board.open:
            return
        path, end = start.operation, time.monotonic() + 6 * PATIENCE
        rid, _ = self._board.open[path]
        while time.monotonic() < end:
            answer = await self._poll(rid, path)
            if answer is not None and answer.is_final:
                self._board.open.pop(path, None)
                return await self._after_the_end(rid, path)
            await asyncio.sleep(self._chance.uniform(0.05, 0.4))

    async def _poll(self, rid: str, path: str) -> Answer | None:
        if self._chance.random() < 0.25:
            answer = await self._ask("status", "GET", rid, f"{path}/status")
            return answer if answer is None or answer.status != 200 else replace(answer, state=None)
        headers = {"prefer": "wait=1"} if self._chance.random() < 0.4 else {}
        return await self._ask("poll", "GET", rid, path, headers)

    async def _after_the_end(self, rid: str, path: str) -> None:
        """Now and then read it again, or have it forgotten."""
        if self._chance.random() < 0.3:
            await self._ask("poll", "GET", rid, path)
        if self._chance.random() < 0.2:
            await self._ask("cancel", "DELETE", rid, path)
            await self._ask("poll", "GET", rid, path)


_METHODS = ["GET", "PUT", "POST"]


async def sweep(wire: Wire, board: Board, seconds: float) -> None:
    """Poll all that nobody followed to its end, for so long at most."""
    chance = random.Random(0)  # noqa: S311 - no secret
    end = time.monotonic() + seconds

    async def follow(path: str, rid: str, owner: str) -> None:
        while time.monotonic() < end:
            answer = await wire.call("poll", wire.server(chance), "GET", path, owner=owner, rid=rid)
            if answer is not None and answer.is_final:
                return
            await asyncio.sleep(0.3)

    async with asyncio.TaskGroup() as group:
        for path, (rid, owner) in board.open.items():
            group.create_task(follow(path, rid, owner))
