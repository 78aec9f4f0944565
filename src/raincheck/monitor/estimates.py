"""When an operation is expected to finish, and when the next poll is worthwhile. Pure.

Known are the durations of the operations of its route that came before (`operations.durations`),
how long it runs already, and what it says of its progress. A poll costs its client something, and
so does time that it loses after the end: the next poll is where both together are least.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from raincheck.operations.durations import Sketch
from raincheck.operations.operation import Operation, State

SHORTEST_RETRY_AFTER, LONGEST_RETRY_AFTER = 1, 30  # seconds: an end is to be seen soon enough
LONGEST_BEFORE_BEGIN = 3600  # seconds: until then nothing ends but by being cancelled
FEWEST = 3  # durations that tell something
POLL = 0.05  # what a poll costs: as much as to lose this share of the duration
LAG = 0.01  # seconds by which polls come later than they are told to, at least
LATE = 0.5  # seconds by which whole seconds make a poll late on average
NEAR = 4.0  # seconds before the last known duration within which whole seconds make a difference
STALE = 5  # seconds that a repetition of a shared request may come later than without history

# What is expected first, then, if it has not come true, next: shares of all durations.
SHARES = (0.5, 0.8, 0.95, 1.0)
# What is believed of a route before anything is known of it: that all orders of magnitude are as
# likely. It counts for little, but a few durations alone say nothing of the next one.
_BELIEVED = tuple(1.5 * 2.0**n for n in range(17))
_BELIEF = 0.5  # for how many durations it counts

# How a projection from progress may be wrong: the rest takes so many times as long.
_SPREAD = (0.7, 0.85, 1.0, 1.2, 1.6)
_LEAST_PROGRESS, _LEAST_ELAPSED = 0.02, 1.0  # a share, and seconds: less tells no rate
_DOUBT = 0.2  # of a projection, against history that agrees with it
_TOLERANCE = 0.5  # of the logarithm of the rest, within which history agrees


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """What may be the duration of one operation, and what it would cost to wait for it.

    Attributes:
        durations: Seconds since its creation, in order: a poll that is told to come then is not
            too early.
        left: The weight of each of them and of all that are longer; then 0.
        inverse: The same of the weights divided by the durations.
        ahead: What those whose duration is that or longer still have to pay, together.
        known: Seconds after which nothing is known any more.
        expected: Durations that are expected one after the other.
    """

    durations: tuple[float, ...]
    left: tuple[float, ...]
    inverse: tuple[float, ...]
    ahead: tuple[float, ...]
    known: float
    expected: tuple[float, ...]

    def lost(self, first: int, end: int, seconds: float) -> float:
        """Return what is lost of durations that are over before a poll, relative to each."""
        weight = self.left[first] - self.left[end]
        return seconds * (self.inverse[first] - self.inverse[end]) - weight


def retry_after(operation: Operation, now: float, past: Sketch | None) -> int:
    """Return the seconds until the next poll is worthwhile.

    Never 0 and never a fraction: several clients then wait for 30 s or fail.

    Args:
        now: Seconds since the epoch by the store's clock.
        past: What is known of its route.
    """
    if (rest := _before_begin(operation, now)) > 0:
        return math.ceil(min(rest, LONGEST_BEFORE_BEGIN))
    blind = math.ceil((now - operation.begun) / 10)
    blind = max(SHORTEST_RETRY_AFTER, min(LONGEST_RETRY_AFTER, blind))
    since, outlook = begun(operation), _outlook(operation, past)
    if since is None or outlook is None or not 0 <= now - since < outlook.known:
        return blind
    _, best = _best(outlook, now - since)
    # Who repeats a shared request must not come when its response is no longer given to others.
    return min(best, blind + STALE) if operation.coalesced else best


def estimate(operation: Operation, now: float, past: Sketch | None) -> float | None:
    """Return when an operation is expected to finish; None: nothing is known of that.

    The same for as long as nothing is learned, and it is not refuted.
    """
    is_early, outlook = _before_begin(operation, now) > 0, _outlook(operation, past)
    since = operation.not_before if is_early else begun(operation)
    if since is None or outlook is None:
        return since if is_early else None
    return next((since + seconds for seconds in outlook.expected if since + seconds > now), None)


def _before_begin(operation: Operation, now: float) -> float:
    """Return the seconds for which workers must not begin yet."""
    is_waiting = operation.state is State.ACCEPTED and operation.not_before is not None
    return (operation.not_before or now) - now if is_waiting else 0.0


def _rounded(seconds: float) -> float:
    """Round to two digits: what is learned of others meanwhile changes little."""
    return float(f"{seconds:.2g}")


def begun(operation: Operation) -> float | None:
    """Return since when the handler runs whose end is awaited; None: that can't be said.

    A handler begins before its operation is recorded. One that waits to be run again, or is, has
    lost a process: its age tells nothing.
    """
    is_first = operation.state is State.RUNNING and operation.attempts <= 1
    return operation.begun if is_first else None


def _outlook(operation: Operation, past: Sketch | None) -> Outlook | None:
    past = past if past is not None and past.count >= FEWEST else None
    return _outlook_of(past, _project(operation))


@lru_cache(maxsize=128)
def _outlook_of(past: Sketch | None, projection: _Projection | None) -> Outlook | None:
    if projection is not None:
        return _of(_conditioned(past, projection), 0.0)
    return None if past is None else _of(past, _BELIEF / len(_BELIEVED))


def _of(sketch: Sketch, belief: float) -> Outlook:
    """Return what follows from durations.

    Args:
        belief: The weight of each duration that is believed to be possible anyway.
    """
    known = sketch.points[-1][0] - LAG
    points = sorted([*sketch.points, *((x, belief) for x in _BELIEVED if belief and x < known)])
    durations = tuple(x - LAG for x, _ in points)
    left = _sums(w for _, w in points)
    inverse = _sums(w / x for x, w in points)
    expected = tuple(_rounded(sketch.quantile(share)) for share in SHARES)
    bare = Outlook(durations, left, inverse, (), known, expected)
    return replace(bare, ahead=_ahead(bare))


def _sums(weights: Iterable[float]) -> tuple[float, ...]:
    """Return the sums of all from each to the last; then 0."""
    sums = [0.0]
    for weight in reversed(list(weights)):
        sums.append(sums[-1] + weight)
    return tuple(reversed(sums))


def _ahead(outlook: Outlook) -> tuple[float, ...]:
    """Find the best polls for each duration that may be the next, from the last one back."""
    durations, ahead = outlook.durations, [0.0] * (len(outlook.durations) + 1)
    for first in reversed(range(len(durations))):
        begin = durations[first - 1] if first else 0.0
        ahead[first] = min(_choices(outlook, ahead, first, begin))
    return tuple(ahead)


def _choices(outlook: Outlook, ahead: Sequence[float], first: int, begin: float) -> Iterator[float]:
    """Yield what it costs to poll when one duration or another is over, as far as that may pay."""
    price = POLL * outlook.left[first]
    for end, seconds in enumerate(outlook.durations[first:], first + 1):
        lost = outlook.lost(first, end, seconds + LATE)
        if end > first + 1 and lost > ahead[first + 1]:
            return
        polls = max(1, math.ceil((seconds - begin) / LONGEST_RETRY_AFTER))
        yield price * polls + lost + ahead[end]


def _best(outlook: Outlook, age: float) -> tuple[float, int]:
    """Return what it costs to wait from now on at least, and the whole seconds to the next poll."""
    first = bisect_right(outlook.durations, age)
    least, best = math.inf, LONGEST_RETRY_AFTER
    for seconds in _worthwhile(outlook.durations[first:], age):
        end = bisect_right(outlook.durations, age + seconds)
        lost = outlook.lost(first, end, age + seconds)
        if lost > least:
            break
        cost = lost + _still(outlook, end, age + seconds)
        if cost < least:
            least, best = cost, seconds
    return least + POLL * outlook.left[first], best


def _worthwhile(durations: Sequence[float], age: float) -> Iterator[int]:
    """Yield the whole seconds after which one duration more is over; and the most there may be."""
    tried = 0
    for duration in durations:
        seconds = max(SHORTEST_RETRY_AFTER, math.ceil(duration - age))
        if seconds >= LONGEST_RETRY_AFTER:
            break
        if seconds != tried:
            yield seconds
        tried = seconds
    yield LONGEST_RETRY_AFTER


def _still(outlook: Outlook, end: int, begin: float) -> float:
    """Return what is still to be paid after a poll that finds no end."""
    if end == len(outlook.durations):
        return 0.0
    if outlook.known - begin <= NEAR:
        return _best(outlook, begin)[0]
    if outlook.known - (outlook.durations[end - 1] if end else 0.0) <= LONGEST_RETRY_AFTER:
        return outlook.ahead[end]
    return min(_choices(outlook, outlook.ahead, end, begin))  # it takes fewer polls from there


# --- progress ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Projection:
    """What the rate so far would make of the rest, both in seconds."""

    elapsed: float
    rest: float


def _project(operation: Operation) -> _Projection | None:
    """Return what progress tells; None: nothing yet.

    What was done before the operation was recorded makes the rate look better than it is, a budget
    long: of what is short, a rate tells little.
    """
    progress, since = operation.progress, begun(operation)
    if progress is None or not progress.total or since is None:
        return None
    elapsed = operation.updated - since
    if elapsed < _LEAST_ELAPSED:
        return None
    try:
        share = progress.completed / progress.total
    except OverflowError:  # integers of any size
        return None
    if not _LEAST_PROGRESS <= share <= 1:
        return None
    return _Projection(elapsed, max(elapsed / share - elapsed, LAG))


def _conditioned(past: Sketch | None, projection: _Projection) -> Sketch:
    """Return what may come by a projection, and of history what agrees with that."""
    elapsed, rest = projection.elapsed, projection.rest
    weight = (1.0 if past is None else _DOUBT) / len(_SPREAD)
    points = [(elapsed + rest * factor, weight) for factor in _SPREAD]
    for x, w in past.points if past is not None else ():
        if past is not None and x > elapsed:
            off = math.log((x - elapsed) / rest) / _TOLERANCE
            points.append((x, w / past.weight * math.exp(-off * off / 2)))
    return Sketch(tuple(sorted(points)))
