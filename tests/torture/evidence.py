"""What is known of a run: its logs, read and put in order. Knows nothing of raincheck."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.torture.journal import CHAOS, CLIENTS, FACTS, HANDLERS, SERVERS
from tests.torture.work import Work

_CONTINUES = ("The above exception was", "During handling of the above")
SLOW = "slow"  # what the machine itself has done to the store
TAKES = 5.0  # seconds after an outage of the store in which a server may not know of its return


@dataclass(frozen=True)
class Effect:
    """A side effect of a handler: `begin`, `beat`, `stopped` or `end`."""

    event: str
    rid: str
    pid: int
    t: float
    nonce: int
    is_rerun: bool


@dataclass(frozen=True)
class Call:
    """A client's request, and its answer.

    Attributes:
        status: None if no answer came.
        error: Why none came, and `broke` when that was known.
    """

    number: int
    sent: float
    purpose: str
    method: str
    path: str
    owner: str
    rid: str = ""
    work: Work | None = None
    key: str | None = None
    is_variant: bool = False
    answered: float | None = None
    status: int | None = None
    state: str | None = None
    operation: str | None = None
    code: str | None = None
    pid: int = 0
    length: int = 0
    digest: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    error: str = ""
    broke: float = 0.0

    @property
    def end(self) -> float:
        """When its answer came; what got none is not asked."""
        return self.sent if self.answered is None else self.answered

    @cached_property
    def header(self) -> Mapping[str, str]:
        return dict(self.fields)

    @property
    def is_of_handler(self) -> bool:
        """Whether the answer is a handler's."""
        return "x-nonce" in self.header

    @property
    def is_outcome(self) -> bool:
        """Whether it says of R how the operation has ended."""
        return self.purpose == "poll" and "operation-status" in self.header


@dataclass(frozen=True)
class Blow:
    """What was done to a process, or (with -1 as `pid`) to the store."""

    action: str
    pid: int
    begin: float
    end: float
    seconds: float = 0.0


@dataclass(frozen=True)
class Facts:
    """What is known of a run.

    Attributes:
        bound: Seconds after the last blow in which everything must have ended.
        claims: How often each operation was claimed, by its id, as the store has it.
        claimants: The process that has claimed each of them last, by its id; 0: it is not known.
        left: What was left in the store and on the disk after retention, by name.
    """

    seed: int
    store: str
    lease: float
    max_attempts: int
    retention: float
    bound: float
    claims: Mapping[str, int] = field(default_factory=dict)
    claimants: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Evidence:
    """All that is known of a run.

    Attributes:
        calm: When the last blow was over.
        stuck: What was asked to end or to come back, and did not.
        errors: The exceptions that the servers have logged, each after what the log says of it.
    """

    calls: list[Call]
    effects: list[Effect]
    blows: list[Blow]
    facts: Facts
    calm: float
    stuck: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @cached_property
    def works(self) -> dict[str, Work]:
        """What each request asked for."""
        return {c.rid: c.work for c in self.calls if c.work is not None and not c.is_variant}

    @cached_property
    def calls_of(self) -> dict[str, list[Call]]:
        """The calls about each request."""
        return grouped(self.calls, lambda c: c.rid)

    @cached_property
    def begins(self) -> dict[str, list[Effect]]:
        """The runs of each request's handler."""
        return grouped((e for e in self.effects if e.event == "begin"), lambda e: e.rid)

    @cached_property
    def operations(self) -> dict[str, list[Call]]:
        """For each operation, by R: the calls of its owner, in order of their answers."""
        found: dict[str, list[Call]] = {
            c.operation: [] for c in self.calls if c.purpose == "start" and c.operation
        }
        for call in sorted(self.calls, key=lambda c: c.end):
            path = call.operation if call.purpose == "start" else without_suffix(call.path)
            if path in found and call.purpose in ("start", "poll", "status", "cancel"):
                found[path].append(call)
        return found

    def touched(self, pids: Iterable[int], begin: float, end: float) -> list[Blow]:
        """Return the blows that explain why one of these processes did not finish its work.

        Args:
            pids: 0 is a process that nobody knows, as it never answered.
        """
        known = set(pids)
        return [
            blow
            for blow in self.blows
            if (blow.pid in known or (0 in known and blow.pid != -1))
            and blow.begin <= end
            and blow.end >= begin
            and self._is_lasting(blow)
        ]

    def _is_lasting(self, blow: Blow) -> bool:
        return blow.action in ("kill", "restart") or blow.seconds > self.facts.lease / 2

    def is_away(self, moment: float, until: float, pid: int = 0) -> bool:
        """Tell whether the store was away, or had been shortly before.

        Args:
            pid: Of the process that says so; while it was frozen it could not learn more.
        """
        return any(
            blow.begin <= until and moment <= blow.end + TAKES + self._frozen(pid, blow.end, moment)
            for blow in self.blows
            if blow.pid == -1
        )

    def _frozen(self, pid: int, since: float, until: float) -> float:
        """Return for how many seconds a process was frozen."""
        freezes = (b for b in self.blows if b.pid == pid and b.action.startswith("freeze"))
        return sum(max(0.0, min(b.end, until) - max(b.begin, since)) for b in freezes)


# --- reading the logs -------------------------------------------------------------------------


def load(directory: Path) -> Evidence:
    """Read the logs of a run."""
    blows, calm, stuck = _blows(directory / CHAOS)
    return Evidence(
        calls=_calls(directory / CLIENTS),
        effects=read_effects(directory / HANDLERS),
        blows=blows,
        facts=Facts(**json.loads((directory / FACTS).read_text())),
        calm=calm,
        stuck=stuck,
        errors=read_errors(directory / SERVERS),
    )


def _calls(path: Path) -> list[Call]:
    sent: dict[int, dict[str, Any]] = {}
    for line in read_lines(path):
        number = line["call"]
        if line["event"] == "sent":
            sent[number] = line | {"sent": line["t"]}
        elif line["event"] == "answered":
            sent[number] |= line | {"answered": line["t"]}
        else:
            sent[number] |= {"error": line["error"], "broke": line["t"]}
    return [_call(number, line) for number, line in sent.items()]


def _call(number: int, line: dict[str, Any]) -> Call:
    names = Call.__dataclass_fields__
    known = {name: value for name, value in line.items() if name in names}
    known["fields"] = tuple((name, value) for name, value in line.get("fields", ()))
    known["work"] = Work(**line["work"]) if line.get("work") else None
    return Call(number=number, **known)


def _blows(path: Path) -> tuple[list[Blow], float, list[str]]:
    begun: dict[int, dict[str, Any]] = {}
    calm, stuck, slow = 0.0, [], list[Blow]()
    for line in read_lines(path):
        match line["event"]:
            case "blow":
                begun[line["number"]] = line
            case "over":
                begun[line["number"]]["end"] = line["t"]
            case "slow":
                slow.append(Blow(SLOW, -1, line["t"] - line["seconds"], line["t"], line["seconds"]))
            case "stuck":
                stuck.append(f"{begun[line['number']]['action']}: {line['error']}")
            case "calm":
                calm = line["t"]
    blows = [
        Blow(b["action"], b["pid"], b["t"], b.get("end", b["t"]), b["seconds"])
        for b in begun.values()
    ]
    return blows + slow, calm, stuck


def grouped(items: Iterable[Any], key: Callable[[Any], Any]) -> dict[Any, list[Any]]:
    """Sort items into lists by a key."""
    found: dict[Any, list[Any]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found


def without_suffix(path: str) -> str:
    return path.removesuffix("/status").removesuffix("/result")


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the documents of a log."""
    if path.exists():
        yield from map(json.loads, path.read_text().splitlines())


def read_effects(path: Path) -> list[Effect]:
    """Return what the handlers have noted."""
    effects = []
    for line in path.read_text().splitlines() if path.exists() else ():
        event, rid, pid, t, nonce, rerun = line.split()
        effects.append(Effect(event, rid, int(pid), float(t), int(nonce), rerun == "1"))
    return effects


def read_errors(path: Path) -> list[str]:
    """Return for each traceback in a server's log the line before it, and its last line.

    Of several that explain each other, only the last one counts.
    """
    errors: list[str] = []
    context, before, is_within = "", "", False
    for line in path.read_text().splitlines() if path.exists() else ():
        if line.startswith("Traceback "):
            context = context or before
            is_within = True
        elif is_within and line and not line.startswith((" ", "|", "+")):
            errors.append(f"{context.strip()}: {line}")
            is_within = False
        elif errors and line.startswith(_CONTINUES):
            errors.pop()
        elif line and not is_within:
            context = ""
        before = line
    return errors
