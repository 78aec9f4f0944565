"""What hypothesis makes records of: all that raincheck may ask a store to keep."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from raincheck.operations.operation import Operation, Progress, Reason, Result, State

# The fixtures of a test are shared by its examples, and its class by its subclasses, on purpose.
with_examples = settings(
    deadline=None,
    database=None,
    max_examples=50,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)

any_text = st.text(st.characters())  # lone surrogates included
# What every store must keep; not every database takes a NUL or a lone surrogate.
text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
finite = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(0, 2**53)
header = st.tuples(st.binary(max_size=20), st.binary(max_size=20))
headers = st.lists(header, max_size=4).map(tuple)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | finite | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=5,
)


def _has_pair(text: str) -> bool:
    """Two surrogates in a row are one character for JSON; no server makes such text."""
    return any("\ud800" <= c <= "\udbff" for c in text)


_known = {*Operation.__slots__, "v"}
records = st.builds(
    Operation,
    id=text.filter(bool),
    state=st.sampled_from(State),
    created=finite,
    updated=finite,
    retention=finite,
    method=st.text(),
    route=any_text.filter(lambda text: not _has_pair(text)),
    version=st.integers(1, 2**53),
    owner=st.none() | text,
    queue=st.none() | text,
    fence=count,
    worker=st.none() | text,
    lease=st.none() | finite,
    expires=st.none() | finite,
    forgotten=st.booleans(),
    progress=st.none() | st.builds(Progress, finite, st.none() | finite, st.none() | st.text()),
    reason=st.none() | st.sampled_from(Reason),
    result=st.none()
    | st.builds(
        Result,
        *(st.integers(100, 599), headers, count, st.integers(1, 2**40), count, headers),
        *(st.none() | st.text(), st.none() | st.text()),
    ),
    repeatable=st.booleans(),
    captured=st.booleans(),
    fingerprint=st.none() | st.text(),
    coalesced=st.booleans(),
    webhook=st.none() | any_text.filter(lambda text: not _has_pair(text)),
    deliveries=count,
    polled=st.none() | finite,
    unknown=st.dictionaries(st.text().filter(lambda name: name not in _known), json_values),
)
