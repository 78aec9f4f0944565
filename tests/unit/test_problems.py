"""Problems, byte for byte as clients see them."""

from __future__ import annotations

from raincheck.http.messages import Response
from raincheck.http.problems import problem, unavailable


def test_a_problem_says_what_is_wrong_to_programs_and_to_people() -> None:
    body = (
        '{"type":"about:blank","title":"Conflict","status":409,'
        '"detail":"it is über","code":"conflict"}\n'
    ).encode()
    assert problem(409, "conflict", "it is über", ((b"x-a", b"1"),)) == Response(
        409,
        (
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-a", b"1"),
        ),
        body,
    )


def test_what_is_unavailable_may_be_asked_for_again() -> None:
    response = unavailable("the store is away", 5)
    assert response == problem(503, "unavailable", "the store is away", ((b"retry-after", b"5"),))
