"""How long operations have taken: a sketch of bounded size for each route, and a bounded table.

A sketch forgets: each duration counts for less with every one that comes after it, so that it
follows what changes. Two may be merged, in any process, and nothing that was counted is lost. A
table is written down as JSON with a version; what can't be read of it is left out.
"""

from __future__ import annotations

import json
import math
from bisect import insort
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import itemgetter
from typing import Any

from raincheck.operations.routes import ROUTES, fold, is_key, resolve

POINTS = 24  # durations that a sketch tells apart
MEMORY = 64.0  # durations after which one counts for a third
LEAST_WEIGHT = 0.01
HALF_LIFE = 86_400.0  # seconds without news after which a route's place counts for half
SHORTEST, LONGEST = 0.001, 1e8  # seconds
VERSION = 1
LARGEST = 256 * 1024  # bytes of a table that is read at all; the largest that is written has 60 KB

Point = tuple[float, float]  # seconds, and the weight that they have
_KEPT = 1 - 1 / MEMORY
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError, RecursionError, OverflowError)


@dataclass(frozen=True, slots=True, eq=False)
class Sketch:
    """What is known of the durations of one route; what is made of it is remembered by identity.

    Attributes:
        points: In order, no two of the same duration.
        count: How many durations were ever learned.
        seen: When the last one was, in seconds since the epoch by the store's clock.
    """

    points: tuple[Point, ...] = ()
    count: int = 0
    seen: float = 0.0

    @property
    def weight(self) -> float:
        """For how many durations all of it counts."""
        return sum(weight for _, weight in self.points)

    def learn(self, seconds: float, now: float) -> Sketch:
        """Return the sketch with one duration more."""
        if not SHORTEST <= seconds <= LONGEST:  # a clock was set, it may be
            return self
        return self.merge(Sketch(((seconds, 1.0),), 1, now))

    def merge(self, later: Sketch) -> Sketch:
        """Return the sketch with all that another one has learned, which is taken to be newer."""
        kept = _KEPT ** min(later.count, 10_000)
        points = [(x, w * kept) for x, w in self.points if w * kept >= LEAST_WEIGHT]
        for point in later.points:
            insort(points, point)
        count, seen = self.count + later.count, max(self.seen, later.seen)
        return Sketch(_compress(points), count, seen)

    def quantile(self, share: float) -> float:
        """Return the duration that this share of them does not exceed."""
        left = share * self.weight
        for seconds, weight in self.points:
            left -= weight
            if left <= 1e-9:
                return seconds
        return self.points[-1][0] if self.points else math.inf


def _compress(points: list[Point]) -> tuple[Point, ...]:
    """Merge neighbours until there are few enough, first those that blur the least."""
    while len(points) > POINTS or _has_twins(points):
        n = min(range(len(points) - 1), key=lambda n: _blur(points[n], points[n + 1]))
        points[n : n + 2] = [_merged(points[n], points[n + 1])]
    return tuple(points)


def _has_twins(points: list[Point]) -> bool:
    return any(a[0] == b[0] for a, b in pairwise(points))


def _blur(a: Point, b: Point) -> float:
    """Return how much spread is lost, in ratios: 1 s and 2 s are as far apart as 1 h and 2 h."""
    return a[1] * b[1] / (a[1] + b[1]) * math.log(b[0] / a[0]) ** 2


def _merged(a: Point, b: Point) -> Point:
    weight = a[1] + b[1]
    mean = (a[0] * a[1] + b[0] * b[1]) / weight
    return min(max(mean, a[0]), b[0]), weight  # in between, however it is rounded


# --- the table of one application --------------------------------------------------------------

Table = Mapping[str, Sketch]  # by the keys that `routes` makes


def merge(table: Table, news: Table, now: float) -> dict[str, Sketch]:
    """Return a table with what was learned since; of too many routes, those of most use.

    Args:
        now: Seconds since the epoch by the store's clock.
    """
    merged = dict(table)
    for key, sketch in news.items():
        key = resolve(merged, key)
        merged[key] = merged.get(key, Sketch()).merge(sketch)
    if len(merged) > len(table):
        merged = {key: _all_of(merged, keys) for key, keys in fold(merged).items()}
    if len(merged) > ROUTES:
        best = sorted(merged, key=lambda key: _use(merged[key], now), reverse=True)
        merged = {key: merged[key] for key in best[:ROUTES]}
    return merged


def _all_of(table: Table, keys: Iterable[str]) -> Sketch:
    parts = sorted((table[key] for key in keys), key=lambda part: part.seen)
    return reduce(Sketch.merge, parts)


def _use(sketch: Sketch, now: float) -> tuple[float, float]:
    age = max(0.0, now - sketch.seen)
    return sketch.weight * 0.5 ** min(age / HALF_LIFE, 1000.0), sketch.seen


def encode(table: Table, token: str = "") -> bytes:
    """Write a table.

    Args:
        token: What no other writer's has: two may have learned the same.
    """
    routes = {
        key: [s.count, round(s.seen), [[_short(x), _short(w)] for x, w in s.points]]
        for key, s in table.items()
    }
    return json.dumps({"v": VERSION, "by": token, "routes": routes}, separators=(",", ":")).encode()


def _short(number: float) -> float:
    return float(f"{number:.4g}")


class NewerTable(Exception):
    """Another version of raincheck has written it: it is to be left alone."""


def decode(text: bytes | None) -> dict[str, Sketch]:
    """Read a table; of what is none, nothing.

    Raises:
        NewerTable: It is one of another version.
    """
    if text is None or len(text) > LARGEST:
        return {}
    try:
        document = json.loads(text)
        version, routes = document["v"], document.get("routes")
    except _UNREADABLE:
        return {}
    if isinstance(version, int) and version > VERSION:
        raise NewerTable
    return _read_routes(routes) if isinstance(routes, dict) else {}


def _read_routes(routes: Mapping[str, Any]) -> dict[str, Sketch]:
    found = dict[str, Sketch]()
    for key, value in [item for item in routes.items() if is_key(item[0])][:ROUTES]:
        with suppress(*_UNREADABLE):
            found[key] = _read_sketch(*value)
    return found


def _read_sketch(count: Any, seen: Any, points: Any) -> Sketch:
    read = sorted(((float(x), float(w)) for x, w in points[:POINTS]), key=itemgetter(0))
    are_right = all(SHORTEST <= x <= LONGEST and 0 < w <= 10 * MEMORY for x, w in read)
    if not (read and are_right and isinstance(count, int) and 0 < count < 2**53):
        raise ValueError("no sketch")
    if not (isinstance(seen, int | float) and math.isfinite(seen)):
        raise ValueError("no sketch")
    return Sketch(_compress(read), count, float(seen))
