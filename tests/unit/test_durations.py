"""What is kept of durations: bounded, forgetful, mergeable, and read from anything."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.operations import durations
from raincheck.operations.durations import MEMORY, POINTS, NewerTable, Sketch, Table
from raincheck.operations.routes import ROUTES, SIBLINGS, fold, key_of, resolve

NOW = 1_000_000.0
DURATIONS = st.lists(st.floats(0.01, 1e6), max_size=120)


def sketch_of(*seconds: float) -> Sketch:
    sketch = Sketch()
    for one in seconds:
        sketch = sketch.learn(one, NOW)
    return sketch


def sizes(table: Table) -> dict[str, tuple[int, float]]:
    return {key: (sketch.count, round(sketch.weight, 3)) for key, sketch in table.items()}


# --- a sketch ----------------------------------------------------------------------------------


def test_a_sketch_of_few_durations_is_exact() -> None:
    sketch = sketch_of(5, 1, 3, 3)
    assert [x for x, _ in sketch.points] == [1, 3, 5]
    assert (sketch.quantile(0.2), sketch.quantile(0.5), sketch.quantile(1)) == (1, 3, 5)
    assert Sketch().quantile(0.5) == math.inf


@given(learned=DURATIONS)
def test_a_sketch_is_bounded_and_in_order_whatever_it_learns(learned: list[float]) -> None:
    sketch = sketch_of(*learned)
    assert len(sketch.points) <= POINTS
    assert all(a[0] < b[0] for a, b in pairwise(sketch.points))
    assert sketch.count == len(learned)
    assert sketch.weight <= MEMORY
    if learned:
        assert min(learned) * 0.999 <= sketch.quantile(0) <= max(learned) * 1.001


@given(learned=DURATIONS, cuts=st.lists(st.integers(0, 120), max_size=5))
def test_sketches_that_are_merged_have_lost_no_duration(
    learned: list[float], cuts: list[int]
) -> None:
    merged, places = Sketch(), sorted({0, *cuts, len(learned)})
    for first, end in pairwise(places):
        merged = merged.merge(sketch_of(*learned[first:end]))
    whole = sketch_of(*learned)
    assert merged.count == whole.count
    assert merged.weight == pytest.approx(whole.weight, abs=1)


def test_a_sketch_tells_two_kinds_of_durations_apart_however_many_there_were() -> None:
    sketch = sketch_of(*(4 + n % 10 / 100 if n % 2 else 40 + n % 10 / 10 for n in range(400)))
    assert 4 <= sketch.quantile(0.45) <= 4.1
    assert 40 <= sketch.quantile(0.55) <= 41


def test_a_sketch_follows_durations_that_drift() -> None:
    sketch = sketch_of(*(10.0 for _ in range(300)), *(60.0 for _ in range(100)))
    assert sketch.quantile(0.25) == 60
    assert len(sketch_of(*(1 + n / 100 for n in range(2000))).points) <= POINTS


@pytest.mark.parametrize("seconds", [-3.0, 0.0, math.inf, math.nan, 1e300])
def test_a_duration_that_no_clock_can_have_measured_is_not_learned(seconds: float) -> None:
    assert sketch_of(seconds).count == 0


# --- routes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "same"),
    [
        ("/reports/17", "/reports/18"),
        ("/reports/17/", "/reports/18"),
        ("/users/ann@example.org/export", "/users/bob@example.org/export"),
        ("/r/5f0c6b1e-9f7a-4a37-8c2b-0d6f3f1c9a55", "/r/0000"),
        ("/files/a%20b", "/files/c%2Fd"),
        ("/x/" + "a" * 33, "/x/" + "b" * 33),
        ("/a/b/c/d/e/f/g/h/i", "/a/b/c/d/e/f/g/h/j/k"),
    ],
)
def test_paths_that_differ_in_an_id_are_of_one_route(route: str, same: str) -> None:
    assert key_of("POST", route, "app") == key_of("POST", same, "app")


@pytest.mark.parametrize(
    ("method", "route", "salt"),
    [
        ("GET", "/reports/17", "app"),
        ("POST", "/exports/17", "app"),
        ("POST", "/reports", "app"),
        ("POST", "/reports/17", "other"),
        ("POST", "/v2/17", "app"),
    ],
)
def test_other_methods_words_depths_and_applications_are_other_routes(
    method: str, route: str, salt: str
) -> None:
    assert key_of(method, route, salt) != key_of("POST", "/reports/17", "app")
    assert key_of("POST", "/v2/17", "app") != key_of("POST", "/v3/17", "app")


@given(method=st.text(), route=st.text())
def test_a_key_is_short_and_says_nothing_of_the_path(method: str, route: str) -> None:
    key = key_of(method, route, "app")
    assert len(key) <= 100
    assert set(key) <= set("0123456789abcdef.*")


def test_routes_that_differ_in_one_segment_become_one_if_there_are_many() -> None:
    people = [key_of("GET", f"/users/{'a' * n}/export", "app") for n in range(1, SIBLINGS + 2)]
    assert set(fold(people[:-1])) == set(people[:-1])
    others = [key_of("GET", "/reports/new", "app"), key_of("POST", "/users/b/export", "app")]
    folded = fold([*people, *others])
    (pattern,) = set(folded) - set(others)
    assert sorted(folded[pattern]) == sorted(people)
    assert resolve(folded, key_of("GET", "/users/bob/export", "app")) == pattern
    assert resolve(folded, others[0]) == others[0]
    unknown = key_of("GET", "/users/bob/import", "app")
    assert resolve(folded, unknown) == unknown


# --- a table -----------------------------------------------------------------------------------


def learned(table: Table, *paths: str, seconds: float = 3.0, now: float = NOW) -> Table:
    for path in paths:
        one = {key_of("GET", path, "app"): Sketch().learn(seconds, now)}
        table = durations.merge(table, one, now)
    return table


def test_a_table_is_bounded_whatever_paths_come() -> None:
    words = ["".join(chr(97 + int(d)) for d in str(n)) for n in range(3000)]
    busy = learned({}, *["/reports"] * 50)
    flooded = learned(busy, *(f"/{word}/{word[::-1]}x/{word}y" for word in words))
    flooded = learned(flooded, *(f"/users/{word}" for word in words[:100]))
    assert len(flooded) <= ROUTES
    assert flooded[key_of("GET", "/reports", "app")].count == 50
    full = {key: sketch_of(*range(1, 90)) for key in flooded}
    assert len(durations.encode(full)) < 64 * 1024


def test_a_route_that_is_used_no_more_makes_room() -> None:
    words = ["".join(chr(97 + int(d)) for d in str(n)) for n in range(1000, 1000 + ROUTES)]
    old = learned({}, *["/old"] * 50)
    full = learned(old, *(f"/{word}/{word}x" for word in words), now=NOW + 30 * 86_400)
    assert len(full) == ROUTES
    assert key_of("GET", "/old", "app") not in full


def test_what_many_routes_have_become_keeps_all_that_they_had() -> None:
    table = learned({}, *(f"/users/{'a' * (n % 31 + 1)}" for n in range(62)))
    assert [sketch.count for sketch in table.values()] == [62]
    assert [s.count for s in learned(table, "/users/zoe").values()] == [63]


# --- what is written ---------------------------------------------------------------------------


def test_a_table_is_read_as_it_was_written() -> None:
    table = learned(learned({}, "/a", "/a", seconds=2.5), "/b/17", seconds=1e5)
    assert durations.decode(durations.encode(table)) != {}
    assert sizes(durations.decode(durations.encode(table))) == sizes(table)
    assert durations.decode(None) == {}


GOOD: list[Any] = [3, 1000, [[2.5, 1.0], [3.5, 1.0]]]


@pytest.mark.parametrize(
    "bad",
    [
        *(None, 1, "x", [], [1, 2], {}, [3, 1000, []], [3, 1000, None], [3, 1000, [[1]]]),
        *([3, 1000, [[0, 1]]], [3, 1000, [[1, -1]]], [3, 1000, [[1, math.nan]]]),
        *([3, 1000, [[math.inf, 1]]], [3, 1000, [[1, 1e9]]], [3, 1000, [["x", 1]]]),
        *([0, 1000, [[1, 1]]], ["3", 1000, [[1, 1]]], [3, None, [[1, 1]]]),
        *([3, math.nan, [[1, 1]]], [3, 10**400, [[1, 1]]], [2**60, 1, [[1, 1]]]),
    ],
)
def test_a_sketch_that_can_not_be_is_left_out_and_the_others_stay(bad: Any) -> None:
    text = json.dumps({"v": 1, "routes": {"aa.bb": bad, "aa.cc": GOOD, "<script>": GOOD}}).encode()
    assert list(durations.decode(text)) == ["aa.cc"]


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"\xff", b"null", b"[]", b'{"v":1}', b'{"routes":{}}', b'{"v":1,"routes":[]}'),
        *(b"[" * 100_000, b'{"v":1,"routes":{"aa":' + b"9" * 5000 + b"}}"),
        b" " * 300_000,
    ],
)
def test_what_is_no_table_is_read_as_none(text: bytes) -> None:
    assert durations.decode(text) == {}


def test_a_table_of_a_newer_raincheck_is_not_read() -> None:
    with pytest.raises(NewerTable):
        durations.decode(b'{"v":2,"routes":[]}')


@given(points=st.lists(st.tuples(st.floats(0.001, 1e8), st.floats(0.001, 64)), min_size=1))
def test_a_sketch_that_is_read_is_bounded_and_in_order(points: list[tuple[float, float]]) -> None:
    text = json.dumps({"v": 1, "routes": {"aa": [1, 0, points]}}).encode()
    read = durations.decode(text)["aa"].points
    assert len(read) <= POINTS
    assert all(a[0] < b[0] for a, b in pairwise(read))
