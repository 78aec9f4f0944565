"""What runs have measured: kept as JSON, and compared. Nothing here measures or prints."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Any, Literal, Self

NOISE = 0.15  # part of a ratio by which runs of the same code may differ, however alike its rounds

Better = Literal["more", "less"]


@dataclass(frozen=True)
class Figure:
    """A number in a table.

    Attributes:
        better: Whether more or less of it is better.
        shown: How it is printed, as in a format string.
        is_ratio: Whether other runs, and other machines, may be compared with it: it relates two
            things of one run, or counts what no clock has measured.
        noise: The part of it by which runs of the same code may differ.
    """

    value: float
    better: Better
    shown: str = ",.0f"
    is_ratio: bool = False
    noise: float = NOISE

    def __str__(self) -> str:
        return format(self.value, self.shown)

    def worse_than(self, before: Figure) -> float:
        """Return how many times as bad it is as another: 2.0 is twice as slow."""
        now, then = self.value, before.value
        worse, than = (now, then) if self.better == "less" else (then, now)
        if worse == than:
            return 1.0
        return worse / than if than > 0 and worse > 0 else (math.inf if worse > than else 0.0)


@dataclass
class Run:
    """One run of some benchmarks.

    Attributes:
        date: When it began, RFC 3339.
        commit: What was measured, with `+` if the tree had other changes.
        is_full: Whether it measured as much as each benchmark does alone.
        versions: Of Python and of what is compared.
        machine: Its system, processor and cores.
        load: The machine's load average before each benchmark, by name: other work shows in it.
        seconds: What each benchmark took, by name.
        figures: By benchmark, table, row and column.
        missing: What could not be measured, and why.
        failed: The benchmarks that ended with an error.
    """

    date: str
    commit: str
    is_full: bool
    versions: dict[str, str]
    machine: dict[str, str | int]
    load: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    figures: dict[str, Figure] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add(self, benchmark: str, lines: Iterable[str]) -> None:
        """Add what a benchmark's tables have noted."""
        for line in lines:
            noted = json.loads(line)
            if "missing" in noted:
                self.missing.append(f"{benchmark}: {noted['missing']}")
            else:
                name = noted.pop("name")
                self.figures[f"{benchmark}: {name}"] = Figure(**noted)

    def to_json(self) -> str:
        """Write it."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote."""
        read: dict[str, Any] = json.loads(text)
        figures = {name: Figure(**given) for name, given in read.pop("figures").items()}
        return cls(**read, figures=figures)


def of_rounds(values: Sequence[float], better: Better, shown: str) -> Figure:
    """Return the ratio that is the median of several rounds'; they tell how noisy it is."""
    middle = median(values)
    first, _, third = quantiles(values, n=4) if len(values) > 1 else (middle,) * 3
    noise = max(NOISE, (third - first) / middle)
    return Figure(middle, better, shown, is_ratio=True, noise=noise)


def note(name: str, figure: Figure) -> str:
    """Return the line that `Run.add` reads a figure from."""
    return json.dumps({"name": name, **asdict(figure)})


def note_missing(what: str) -> str:
    """Return the line that `Run.add` reads from that something is missing."""
    return json.dumps({"missing": what})


@dataclass(frozen=True)
class Change:
    """A figure that two runs have, and that differs beyond noise.

    Attributes:
        times: How many times as bad it is now.
        noise: Of the two, that of the noisier one.
    """

    name: str
    before: Figure
    after: Figure
    times: float
    noise: float

    @property
    def is_worse(self) -> bool:
        """Whether it has become worse."""
        return self.times > 1


def changes(before: Mapping[str, Figure], after: Mapping[str, Figure]) -> list[Change]:
    """Return what differs beyond noise, the worst first."""
    found = []
    for name in before.keys() & after.keys():
        then, now = before[name], after[name]
        times = now.worse_than(then)
        noise = max(then.noise, now.noise)
        if not 1 / (1 + noise) <= times <= 1 + noise:
            found.append(Change(name, then, now, times, noise))
    return sorted(found, key=lambda change: (-change.times, change.name))


def reservations(before: Run, after: Run) -> list[str]:
    """Say why two runs may differ for other reasons than the code."""
    found = [
        f"{name} {before.versions.get(name, 'missing')}, now {after.versions.get(name, 'missing')}"
        for name in sorted(before.versions.keys() | after.versions.keys())
        if before.versions.get(name) != after.versions.get(name)
    ]
    if before.machine != after.machine:
        found.append(f"another machine, {before.machine}, now {after.machine}")
    if before.is_full != after.is_full:
        found.append("one of the two runs was --full, and measured more")
    if not_now := len(before.figures.keys() - after.figures.keys()):
        found.append(f"{not_now} of its figures were not measured now")
    return found
