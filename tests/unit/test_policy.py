"""Which requests may be deferred, and when."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raincheck.config.limits import Limits
from raincheck.config.policy import Candidate, Policy, Refusal
from raincheck.errors import ConfigurationError

ASYNC = b"respond-async"


def test_by_default_everything_is_deferred_after_the_budget() -> None:
    assert Policy(budget=3.0).decide("GET", "/x", None) == Candidate(3.0)


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "CONNECT"])
def test_some_methods_are_never_deferred(method: str) -> None:
    assert Policy(budget=0).decide(method, "/x", ASYNC) is None


@pytest.mark.parametrize(
    ("mode", "prefer", "budget"),
    [
        ("auto", None, 3.0),
        ("auto", ASYNC, 0),
        ("auto", b"respond-async, wait=5", 5),
        ("auto", b"wait=7", 7),
        ("auto", b"wait=100", 25.0),
        ("auto", b"return=minimal", 3.0),
        ("prefer", ASYNC, 0),
        ("prefer", b"respond-async, wait=100", 25.0),
        ("marked", None, None),
        ("marked", ASYNC, None),
        ("marked", b"wait=1", None),
    ],
)
def test_modes_and_preferences(mode: str, prefer: bytes | None, budget: float | None) -> None:
    decision = Policy(mode=mode, budget=3.0).decide("GET", "/x", prefer)  # type: ignore[arg-type]
    assert isinstance(decision, Candidate)
    assert decision.budget == budget


@pytest.mark.parametrize("prefer", [None, b"wait=5", b"handling=strict"])
def test_mode_prefer_never_defers_unasked(prefer: bytes | None) -> None:
    assert Policy(mode="prefer", budget=3.0).decide("GET", "/x", prefer) is None


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [(ASYNC, "respond-async"), (b"respond-async, wait=5", "respond-async"), (b"wait=5", "wait=5")],
)
def test_what_was_applied_is_said(prefer: bytes, applied: str) -> None:
    decision = Policy().decide("GET", "/x", prefer)
    assert isinstance(decision, Candidate)
    assert decision.applied == applied


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("/reports", "/reports", True),
        ("/reports", "/reports/1", False),
        ("/reports/*", "/reports/1", True),
        ("/reports/*", "/reports/1/2", False),
        ("/reports/**", "/reports/1/2", True),
        ("**/export", "/a/b/export", True),
        ("/a/{name}/c", "/a/b/c", True),
        ("/a/{name}/c", "/a/b/b/c", False),
        ("/a/{rest:path}", "/a/b/c", True),
        ("/a/<int:n>", "/a/5", True),
        ("/a/<path:p>", "/a/5/6", True),
        ("/a.b", "/aXb", False),
        ("*", "/", False),
        ("**", "/any/thing", True),
        ("/a", "/a\n", False),
    ],
)
def test_patterns(pattern: str, path: str, matches: bool) -> None:
    included = Policy(include=[pattern]).decide("GET", path, None)
    excluded = Policy(exclude=[pattern]).decide("GET", path, None)
    assert (included is not None, excluded is None) == (matches, matches)


SPELLING = st.lists(st.sampled_from(["a", "b", "/", "*", "**", "a/", "/b"]), max_size=8)
PLAINLY = {"*": "[^/]*", "**": ".*"}  # as one would write it who fears no hostile path


@given(SPELLING, st.lists(st.text("ab/", max_size=10), min_size=1, max_size=20))
def test_a_pattern_matches_what_it_says(spelled: list[str], tails: list[str]) -> None:
    pattern = "/" + "".join(spelled)
    # Two asterisks that meet are those of a deep one.
    tokens = [t for t in re.split(r"(\*\*|\*)", pattern) if t]
    plainly = re.compile("".join(PLAINLY.get(t) or re.escape(t) for t in tokens), re.DOTALL)
    policy = Policy(include=[pattern])
    for path in (f"/{tail}" for tail in tails):
        decision = policy.decide("GET", path, None)
        assert (decision is not None) == (plainly.fullmatch(path) is not None), path


LONG = 100_000  # characters: what goes back over them does not end within the life of a test
COSTLY = [
    "/reports/{year}-{month}-{day}.pdf",
    "/*a*a*a*a*a*b",
    "**a*b",
    "**a**a**a**b",
    "**/a*a*b/**/c*c*d",
    "/{p:path}/a/{q:path}/a/{r:path}/b",
]


@pytest.mark.parametrize("unit", ["a", "-", "/", "/a-"])
def test_a_hostile_path_takes_no_longer_than_its_length(unit: str) -> None:
    path = "/reports/" + unit * (LONG // len(unit))
    policy = Policy(include=COSTLY, coalesce=COSTLY)
    assert policy.decide("GET", path, None) is None
    assert not policy.coalesces("GET", path)
    policy = Policy(exclude=COSTLY, budgets=dict.fromkeys(COSTLY, 1.0))
    assert policy.decide("GET", path, None) == Candidate(10.0)
    assert Policy(retry=dict.fromkeys(COSTLY, False), max_attempts=2).may_repeat("GET", path)


def test_exclude_wins() -> None:
    policy = Policy(include=["/a/**"], exclude=["/a/b"])
    assert policy.decide("GET", "/a/b", ASYNC) is None
    assert policy.decide("GET", "/a/c", None) is not None
    assert policy.decide("GET", "/b", None) is None


def test_the_first_budget_that_matches_wins() -> None:
    policy = Policy(budget=3.0, budgets={"/a/now": 0, "/a/*": 9.0, "/a/marked": None})
    budgets = [policy.decide("GET", path, None) for path in ("/a/now", "/a/marked", "/b")]
    assert budgets == [Candidate(0), Candidate(9.0), Candidate(3.0)]


def test_hostile_paths_fill_no_memory() -> None:
    policy = Policy(budget=3.0)
    for n in range(3_000):
        assert policy.unasked[f"/{n}"] == policy.unasked[f"/{n}" * 300] == Candidate(3.0)
    assert len(policy.unasked) <= 1_000
    assert max(map(len, policy.unasked)) <= 256


def test_a_wait_alone_does_not_defer_what_only_a_mark_may() -> None:
    assert Policy(budget=None).decide("GET", "/x", b"wait=0") == Candidate(None)


@pytest.mark.parametrize("mode", ["auto", "prefer", "marked"])
@pytest.mark.parametrize("prefer", [ASYNC, b"respond-async, wait=5"])
def test_a_budget_of_none_means_marked_only_whatever_the_client_prefers(
    mode: str, prefer: bytes
) -> None:
    marked_only = Candidate(None, "respond-async")
    everywhere = Policy(mode=mode, budget=None)  # type: ignore[arg-type]
    assert everywhere.decide("GET", "/x", prefer) == marked_only
    there = Policy(mode=mode, budget=3.0, budgets={"/x": None})  # type: ignore[arg-type]
    assert there.decide("GET", "/x", prefer) == marked_only


def test_a_client_that_takes_nothing_but_the_response_is_refused_only_if_it_is_strict() -> None:
    policy = Policy(budget=0)
    assert policy.decide_in_person(None) is None
    assert policy.decide_in_person(ASYNC) is None
    assert policy.decide_in_person(ASYNC, has_key=True) == Candidate(None, in_person=True)
    refusal = policy.decide_in_person(b"respond-async, handling=strict", has_key=True)
    assert isinstance(refusal, Refusal)
    assert refusal.status == 400


@pytest.mark.parametrize(
    ("method", "path", "length", "status"),
    [("HEAD", "/x", None, 400), ("GET", "/no", None, 400), ("POST", "/x", 101, 413)],
)
def test_what_a_strict_client_cannot_get_is_refused(
    method: str, path: str, length: int | None, status: int
) -> None:
    policy = Policy(exclude=["/no"], request_body=100)
    refusal = policy.decide(method, path, b"respond-async, handling=strict", length)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status
    assert not isinstance(policy.decide(method, path, ASYNC, length), Refusal)


@pytest.mark.parametrize("patterns", [["reports"], [""], "/reports", [5]])
def test_a_wrong_pattern_is_said_at_once(patterns: list[str]) -> None:
    with pytest.raises(ConfigurationError):
        Policy(include=patterns)


@pytest.mark.parametrize("wrong", [{"operations": -1}, {"request_body": 1.5}, {"operations": True}])
def test_wrong_limits_are_said_at_once(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError):
        Limits(**wrong)
