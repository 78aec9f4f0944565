"""What people who poll have reported of other clients, rebuilt: none of it happens here."""

from __future__ import annotations

import pytest

from raincheck.client import DeadlineExceeded, LostTouch, Options
from tests.client.playing import Line, answer, play

R = "https://api.example/operations/1"
DONE = answer(200, b"the report")


def test_polls_ask_for_no_new_operation_and_bring_no_body() -> None:
    """medplum/medplum#4157: `Prefer: respond-async` on polls makes new operations for ever."""
    sent = {"prefer": "respond-async", "content-type": "application/json", "content-length": "9"}
    played = play([answer(202, content_location=R), DONE], headers=sent, method="POST")
    fields = dict(played.asks[0].headers)
    assert fields == {"prefer": "wait=20"}
    assert played.asks[0].method == "GET"


def test_a_retry_after_of_45_minutes_does_not_stall_the_caller_unnoticed() -> None:
    """Azure/azure-sdk-for-python#15952: the thread sleeps for as long as the server says."""
    throttled = answer(429, retry_after="2700")
    played = play([answer(202, location=R), *[throttled] * 99], Options(deadline=60))
    assert isinstance(played.error, DeadlineExceeded)
    assert played.seconds < 62


def test_every_retry_after_counts_and_not_only_the_first() -> None:
    """Azure/azure-sdk-for-java#11809: only that of the first answer is used."""
    later: list[Line] = [answer(202, retry_after=str(n)) for n in (3, 1, 7)]
    played = play([answer(202, location=R, retry_after="2"), *later, DONE])
    assert played.waits == [2, 3, 1, 7]


def test_a_key_in_a_field_of_its_own_goes_to_no_other_host() -> None:
    """apache/airflow#70164: `Authorization` is dropped, `X-API-Key` is not."""
    sent = {"x-api-key": "secret", "private-token": "secret", "apikey": "secret"}
    away = answer(307, location="https://files.example/x")
    played = play([answer(202, location=R), away, DONE], headers=sent)
    assert set(sent) <= dict(played.asks[0].headers).keys()
    assert not set(sent) & dict(played.asks[1].headers).keys()


@pytest.mark.parametrize("minutes", [1, 10])
def test_a_dropped_line_loses_no_operation(minutes: int) -> None:
    """go-to-k/cdkd#3236: an error in transit takes the token along, and what was made is lost."""
    dropped: list[Line] = [ConnectionError("the VPN is gone")] * (minutes * 60)
    played = play([answer(202, location=R), *dropped, DONE], Options(patience=120), method="POST")
    assert played.sent == 1
    assert isinstance(played.error, LostTouch)
    assert played.error.token is not None
    later = play([DONE], token=played.error.token)
    assert later.final is not None
    assert later.sent == 0


def test_a_state_that_nobody_knows_is_no_endless_loop() -> None:
    """ecmwf/cdsapi#49: an unknown state is neither an end nor an error."""
    strange = answer(200, {"status": "deleted_by_admin_v2"})
    played = play([answer(202, operation_location=R), *[strange] * 9999], Options(deadline=3600))
    assert isinstance(played.error, DeadlineExceeded)
    assert played.error.status == 200


def test_a_relative_place_is_relative_to_the_request() -> None:
    """Availity/sdk-js#77: it was resolved against the page."""
    played = play([answer(202, location="abc"), DONE], url="https://api.example/v1/uploads/")
    assert played.urls == ["https://api.example/v1/uploads/abc"]


def test_a_202_at_a_poll_without_a_location_keeps_the_place() -> None:
    """NLstn/go-odata#769: running answers without the `Location` that OData demands."""
    assert play([answer(202, location=R), answer(202), answer(202), DONE]).urls == [R] * 3
