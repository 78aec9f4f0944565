"""Prints what it costs to poll by one rule or another: `python -m tests.benchmarks.polling`.

Replays durations in simulated time, through the code that answers polls: an operation begins, its
client comes when it was told to, and what has ended is learned. Polls are counted per operation,
without the request itself; lost is the time from the end to the poll that sees it, in percent of
the duration, on average. What is recorded is how long it took to compress the packages of a Python
environment, each with xz.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from raincheck.monitor.estimates import LONGEST_RETRY_AFTER, retry_after
from raincheck.operations.durations import Sketch
from raincheck.operations.operation import Operation, State
from tests.benchmarks.figures import Figure
from tests.benchmarks.tables import Table, parser

RECORDED = Path(__file__).with_name("recorded_durations.txt")
WARM = 50  # operations of each kind that are learned from and not counted
POLL_COSTS = 5  # percent of the duration
EXACT = 0.02  # of a cost; the same seed gives the same, with the same code
LATENCY = (0.002, 0.015)  # seconds by which a poll comes later than it was told to

# From the age, what is left of the duration, and the poll's latency, to seconds.
Next = Callable[[float, float, float], int]


@dataclass(frozen=True)
class Score:
    """What one rule has cost."""

    polls: float
    lost: float  # percent

    def __str__(self) -> str:
        return f"{self.polls:.1f} / {self.lost:.1f} %"


# --- durations ---------------------------------------------------------------------------------


def kinds(count: int, draw: random.Random) -> Iterator[tuple[str, list[float]]]:
    """Yield series of durations in seconds, by name."""
    rates = range(count)
    yield "regular, 3 s", [draw.uniform(3.001, 3.005) for _ in rates]
    yield "regular, 20 s", [draw.uniform(20.001, 20.005) for _ in rates]
    yield "regular, 90 s", [draw.uniform(90.001, 90.005) for _ in rates]
    yield "nearly regular, 12 s ± 2 %", [draw.gauss(12, 0.24) for _ in rates]
    yield "log-normal, 8 s, sigma 0.5", [8 * draw.lognormvariate(0, 0.5) for _ in rates]
    yield "log-normal, 30 s, sigma 1", [30 * draw.lognormvariate(0, 1) for _ in rates]
    yield "bimodal, 4 s and 40 s", [draw.choice((4, 40)) * draw.gauss(1, 0.05) for _ in rates]
    yield "heavy tail, from 2 s, alpha 1.2", [2 * draw.paretovariate(1.2) for _ in rates]
    yield "drifting, 5 s to 50 s", [5 * 10 ** (n / count) * draw.gauss(1, 0.05) for n in rates]
    yield "a step, 6 s to 25 s", [(6, 25)[n > count / 2] * draw.gauss(1, 0.03) for n in rates]
    recorded = [float(line) for line in RECORDED.read_text().split()]
    yield "recorded", draw.choices(recorded, k=count)


# --- rules -------------------------------------------------------------------------------------


def operation_at(now: float) -> Operation:
    return Operation("a", State.RUNNING, now, now, 60, "POST", "/reports", fence=1)


def by_raincheck(past: Sketch | None) -> Next:
    operation = operation_at(0.0)
    return lambda age, left, latency: retry_after(operation, age, past)


def fixed(seconds: int) -> Callable[[], Next]:
    return lambda: lambda age, left, latency: seconds


def backing_off() -> Next:
    steps = iter((1, 2, 4, 8, 16))
    return lambda age, left, latency: next(steps, LONGEST_RETRY_AFTER)


def oracle() -> Next:
    return lambda age, left, latency: max(1, min(LONGEST_RETRY_AFTER, math.ceil(left - latency)))


OTHERS: dict[str, Callable[[], Next]] = {
    "fixed 1 s": fixed(1),
    "fixed 5 s": fixed(5),
    "fixed 10 s": fixed(10),
    "fixed 30 s": fixed(30),
    "backoff": backing_off,
    "no history": lambda: by_raincheck(None),
}


def follow(duration: float, rule: Next, draw: random.Random) -> tuple[int, float]:
    """Return the polls that a client makes, and the seconds it loses, relative to the duration."""
    age, polls = 0.0, 0
    while age < duration or not polls:
        latency = draw.uniform(*LATENCY)
        age += rule(age, duration - age, latency) + latency
        polls += 1
    return polls, (age - duration) / duration


def score(durations: Sequence[float], rules: Iterator[Next], draw: random.Random) -> Score:
    results = [follow(x, rule, draw) for x, rule in zip(durations, rules, strict=False)][WARM:]
    return Score(mean(polls for polls, _ in results), 100 * mean(lost for _, lost in results))


def learning(durations: Sequence[float]) -> Iterator[Next]:
    """Yield what raincheck tells each client, by what has ended before."""
    past = Sketch()
    for n, duration in enumerate(durations):
        yield by_raincheck(past)
        past = past.learn(duration, float(n))


def repeated(make: Callable[[], Next]) -> Iterator[Next]:
    while True:
        yield make()


def exactly(cost: float) -> Figure:
    return Figure(cost, "less", ".1f", is_ratio=True, noise=EXACT)


# --- the curve ---------------------------------------------------------------------------------

CHANCE = 0.5  # percentage points: each rule has had its own latencies


def is_on_or_beyond(ours: Score, others: Sequence[Score]) -> bool:
    """Tell whether no other rule, and no mixture of two, costs less of both."""

    def lost_at(a: Score, b: Score) -> float:
        if a.polls == b.polls:
            return min(a.lost, b.lost)
        share = (ours.polls - a.polls) / (b.polls - a.polls)
        return a.lost + share * (b.lost - a.lost)

    mixtures = [(a, b) for a in others for b in others if a.polls <= ours.polls <= b.polls]
    best = [lost_at(a, b) for a, b in mixtures]
    best += [other.lost for other in others if other.polls <= ours.polls]
    return ours.lost <= min(best, default=math.inf) + CHANCE


def main() -> None:
    """Print the table."""
    asked = parser("polling", __doc__)
    asked.add_argument("--seed", type=int, default=1)
    given = asked.parse_args()
    draw = random.Random(given.seed)  # noqa: S311
    columns = ("durations", "raincheck", *OTHERS, "oracle", "on the curve", "cost, %")
    table = Table("polls per operation / time lost after its end", *columns)
    for name, durations in kinds(200 if given.quick else 1000, draw):
        ours = score(durations, learning(durations), draw)
        others = [score(durations, repeated(make), draw) for make in OTHERS.values()]
        best = score(durations, repeated(oracle), draw)
        is_good = "yes" if is_on_or_beyond(ours, others) else "NO"
        cost = POLL_COSTS * ours.polls + ours.lost
        table.row(name, *map(str, (ours, *others, best)), is_good, exactly(cost))


if __name__ == "__main__":
    main()
