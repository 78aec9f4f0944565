"""A signature is good for one operation and for a while, and nothing else passes for one."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from raincheck import ConfigurationError
from raincheck.config.options import Settings
from raincheck.config.secret_options import LONGEST_LIFETIME
from raincheck.monitor.signing import Signer

OLD, NEW = "the older secret, which is long", "the newer secret, which is long"
LIFETIME = 3600.0
NOW = 1_795_000_000.25
ID = "8f14e45fceea167a5a36dedd4bea2543"


@pytest.fixture
def signer() -> Signer:
    return Signer(NEW, LIFETIME)


times = st.floats(0, 1e10)
lifetimes = st.one_of(st.integers(1, 10**6), st.floats(1, 1e6))


@given(now=times, lifetime=lifetimes)
@example(now=7200.0, lifetime=3600.0)
def test_a_signature_is_good_for_the_lifetime_and_less_than_twice_that(
    now: float, lifetime: float
) -> None:
    signer, whole = Signer(NEW, lifetime), -(-lifetime // 1)
    token = signer.sign(ID, now)
    assert signer.is_valid(token, ID, now)
    assert signer.is_valid(token, ID, (now + lifetime) * (1 - 1e-15))
    assert not signer.is_valid(token, ID, now + 2 * whole)


def test_what_is_made_within_a_lifetime_is_the_same(signer: Signer) -> None:
    begin = NOW // LIFETIME * LIFETIME
    made = {signer.sign(ID, begin + after) for after in (1, 2, LIFETIME / 2, LIFETIME)}
    assert len(made) == 1
    assert signer.sign(ID, begin + LIFETIME + 1) not in made


@given(operation_id=st.text())
def test_a_signature_needs_no_quoting(operation_id: str) -> None:
    signer = Signer(NEW, LIFETIME)
    token = signer.sign(operation_id, NOW)
    assert signer.is_valid(token, operation_id, NOW)
    assert not set(token) - set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"
    )


@given(one=st.text(), other=st.text())
@example("1.a", "a")
def test_a_signature_for_one_operation_is_worth_nothing_for_another(one: str, other: str) -> None:
    signer = Signer(NEW, LIFETIME)
    assert signer.is_valid(signer.sign(one, NOW), other, NOW) == (one == other)


def test_nobody_can_prolong_a_signature(signer: Signer) -> None:
    expiry, signature = signer.sign(ID, NOW).split(".")
    later = str(int(expiry) + int(LIFETIME))
    assert len(later) == len(expiry)
    assert not signer.is_valid(f"{later}.{signature}", ID, NOW)
    assert not signer.is_valid(f"{expiry}.{signature}", ID, float(expiry))


@given(st.one_of(st.text(), st.from_regex(r"\A\d+\.[\w-]{43}\Z")))
@example("٣.".ljust(45, "A"))
@example("9" * 100_000)
@example(f"{'9' * 100_000}.{'A' * 43}")
@example("\ud800")
def test_nothing_else_is_a_signature(token: str) -> None:
    assert not Signer(NEW, LIFETIME).is_valid(token, ID, NOW)


def test_a_signature_with_anything_more_or_less_is_none(signer: Signer) -> None:
    token = signer.sign(ID, NOW)
    for other in (token[:-1], token[1:], token + "=", token + "\n", f" {token}", f"0{token}", ""):
        assert not signer.is_valid(other, ID, NOW)


def test_all_secrets_are_valid_and_the_first_signs(signer: Signer) -> None:
    both, old = Signer([NEW, OLD], LIFETIME), Signer(OLD, LIFETIME)
    assert both.is_valid(old.sign(ID, NOW), ID, NOW)
    assert both.sign(ID, NOW) == signer.sign(ID, NOW)
    assert not signer.is_valid(old.sign(ID, NOW), ID, NOW)


# --- options -----------------------------------------------------------------------------------


def settings(**options: Any) -> Settings:
    return Settings(owner=lambda request: None, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url_secret": "s3cret"}, "url_secret must have at least 16 characters"),
        ({"url_secret": ""}, "url_secret must have at least 16 characters"),
        ({"url_secret": []}, "url_secret is an empty list"),
        ({"url_secret": [NEW, NEW]}, "url_secret holds one twice"),
        ({"url_secret": NEW.encode()}, "url_secret must be a str or a list of them, not bytes"),
        ({"url_secret": [NEW, 12345678]}, "url_secret must hold only str, not int"),
        ({"url_lifetime": 0}, "url_lifetime must be a number of seconds > 0"),
        ({"url_lifetime": -1}, "url_lifetime must be"),
        ({"url_lifetime": "1"}, "url_lifetime must be"),
        ({"url_lifetime": None}, "url_lifetime must be"),
        ({"url_lifetime": True}, "url_lifetime must be"),
        ({"url_lifetime": float("inf")}, "url_lifetime must be"),
        ({"url_lifetime": float("nan")}, "url_lifetime must be"),
    ],
)
def test_a_wrong_option_is_said_and_no_secret_shown(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings(**options)
    assert said in str(caught.value)
    assert not any(secret in str(caught.value) for secret in ("s3cret", NEW, "12345678"))


def test_signed_urls_need_an_owner() -> None:
    with pytest.raises(ConfigurationError, match="url_secret needs owner"):
        Settings(url_secret=NEW)


@pytest.mark.parametrize("secrets", [NEW, [NEW, OLD], iter([NEW, OLD])])
def test_secrets_may_be_one_or_several_and_are_not_printed(secrets: Any) -> None:
    chosen = settings(url_secret=secrets)
    assert Signer(chosen.url_secret, chosen.url_lifetime).sign(ID, NOW)
    assert NEW not in repr(chosen)


def test_a_signature_may_be_good_for_a_century() -> None:
    signer = Signer(NEW, LONGEST_LIFETIME)
    assert signer.is_valid(signer.sign(ID, NOW), ID, NOW + LONGEST_LIFETIME)


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "itsdangerous", None)
    with pytest.raises(ConfigurationError, match=r'pip install "raincheck\[signed-urls\]"'):
        Signer(NEW, LIFETIME)
