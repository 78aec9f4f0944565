"""What `raincheck.client` is to those who import it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import raincheck.client
from raincheck import ConfigurationError
from raincheck.client import Options

WITHOUT = """
import sys
for name in {missing!r}:
    sys.modules[name] = None
{code}
"""


def said(code: str, *missing: str) -> str:
    """Run code where libraries are missing, and return the last line of its traceback."""
    text = WITHOUT.format(missing=missing, code=code)
    ran = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    return (ran.stderr.strip().splitlines() or [ran.stdout])[-1]


@pytest.mark.server
@pytest.mark.parametrize(
    ("code", "missing", "library"),
    [
        ("import raincheck.client", ("httpx", "requests"), "httpx or requests"),
        ("from raincheck.client import Transport", ("httpx",), "httpx"),
        ("from raincheck.client import Adapter", ("requests",), "requests"),
    ],
)
def test_the_client_says_which_extra_is_missing(
    code: str, missing: tuple[str, ...], library: str
) -> None:
    assert said(code, *missing).endswith(
        f'raincheck.client needs {library}: pip install "raincheck[client]"'
    )


@pytest.mark.server
def test_the_client_for_one_library_does_not_need_the_other() -> None:
    assert said("from raincheck.client import Adapter", "httpx") == ""
    assert said("from raincheck.client import Transport, resume", "requests") == ""


def test_everything_the_client_exports_is_there() -> None:
    names = raincheck.client.__all__
    assert names == sorted(names)
    assert [name for name in names if not hasattr(raincheck.client, name)] == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        raincheck.client.nothing  # noqa: B018


@pytest.mark.parametrize(
    "wrong",
    [
        {"deadline": -1},
        {"deadline": "5"},
        {"wait": float("nan")},
        {"wait": None},
        {"patience": True},
        {"patience": float("inf")},
        {"place": 7},
    ],
)
def test_options_of_the_client_that_can_t_be_meant_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Options(**wrong)  # type: ignore[arg-type]
