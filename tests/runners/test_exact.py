"""What a worker answers is what the web process would have, byte for byte, in each framework.

One script of requests is asked thrice below `/here`, where handlers run in the web process (at
once, deferred), `/mark` and `/rule`, where a real worker runs them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.runners.exact.material import HERE, MARK, RULE
from tests.runners.exact.script import SCRIPT, URLENCODED
from tests.runners.exact.sites import TARGETS, Site, open_site
from tests.runners.exact.wire import Answer, Asked, sent_by_handler, without_added
from tests.support.real_servers import RedisServer
from tests.support.slow import others_slow

pytestmark = [pytest.mark.server, pytest.mark.timeout(300)]

DEFERRED = "deferred"
ASKED = {DEFERRED: HERE, MARK: MARK, RULE: RULE}
NOW = ("Prefer", "respond-async")
MIB = 1024 * 1024
LARGE = 100 * MIB


@pytest.fixture(scope="module", params=others_slow(list(TARGETS), usual=2))
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    framework = str(request.param)
    with open_site(framework, tmp_path_factory.mktemp(framework)) as site:
        yield site


def differences(site: Site, script: dict[str, Asked]) -> list[Any]:
    """Return how what workers answer is not what the web process does."""
    # All first: then the worker has them at once.
    here = {name: sent_by_handler(site.ask(asked.at(HERE))) for name, asked in script.items()}
    there = {
        (name, way): accept(site, asked, way) for name, asked in script.items() for way in ASKED
    }
    found = []
    for (name, way), accepted in there.items():
        known = [field for field in script[name].headers if field[0] == "Cookie"]
        made = sent_by_handler(site.end(accepted, *known), ASKED[way])
        if (made := without_added(made, here[name])) != here[name]:
            found.append((name, way, here[name], made))
    return found


def accept(site: Site, asked: Asked, way: str) -> Answer:
    more = [NOW] if way == DEFERRED else []
    answer = site.ask(asked.at(ASKED[way]).adding(*more))
    # What is answered before a handler is reached is no reason for an operation.
    assert answer.status == 202 or way == MARK, answer
    return answer


def test_workers_answer_byte_for_byte_as_the_web_process_does(site: Site) -> None:
    assert differences(site, SCRIPT) == []


def test_head_is_answered_at_once_wherever_the_handler_would_run(site: Site) -> None:
    asked = Asked("/{way}/text", "HEAD")
    here = site.ask(asked.at(HERE))
    assert here.status == 200
    for way in (MARK, RULE):
        assert sent_by_handler(site.ask(asked.at(way)), way) == sent_by_handler(here)


def test_a_304_that_is_for_the_first_request_comes_to_no_poll(site: Site) -> None:
    asked = Asked("/{way}/status?status=304")
    assert site.ask(asked.at(HERE)).status == 304
    shown = {way: site.end(accept(site, asked, way)) for way in ASKED}
    assert {answer.status for answer in shown.values()} == {shown[DEFERRED].status} != {304}
    assert len({answer.body for answer in shown.values()}) == 1


def test_what_a_worker_reads_of_a_session_is_what_the_web_process_does(site: Site) -> None:
    cookie = cookies(site.ask(Asked("/here/session?login")))
    asked = Asked("/{way}/session", headers=(cookie,))
    assert differences(site, {"session": asked}) == []
    assert json.loads(site.end(accept(site, asked, MARK)).body)["before"]["user"] == "Müller"


def test_what_a_handler_changes_in_a_session_outside_is_kept_neither_here_nor_by_a_worker(
    site: Site,
) -> None:
    """Middleware outside raincheck is over by then; and R sends no cookie, see `keep_cookies`."""
    for way in ASKED:
        cookie = cookies(site.ask(Asked("/here/session?login")))
        done = site.end(accept(site, Asked("/{way}/session?login", headers=(cookie,)), way))
        assert done.status == 200
        assert "times" not in "".join(done.all("set-cookie"))
        left = site.ask(Asked("/here/session", headers=(cookie,)))
        assert json.loads(left.body)["before"]["times"] == 1


def cookies(answer: Answer) -> tuple[str, str]:
    """Return the field that sends cookies back."""
    pairs = [value.partition(";")[0] for value in answer.all("set-cookie")]
    return ("Cookie", "; ".join(pairs))


@pytest.mark.parametrize("framework", others_slow(["django", "django-asgi"]))
def test_a_view_behind_a_login_and_a_token_is_run_by_workers_for_who_has_both(
    framework: str, tmp_path: Path
) -> None:
    with open_site(framework, tmp_path) as site:
        login = site.ask(Asked("/login"))
        cookie, token = cookies(login), ("X-CSRFToken", login.body.decode())
        form, posted = (URLENCODED,), b"name=%C3%BC&name=2"
        path = "/{way}/protected"
        script = {
            "reads": Asked(path, headers=(cookie,)),
            "posts": Asked(path, "POST", (*form, cookie, token), posted),
            "posts without a token": Asked(path, "POST", (*form, cookie), posted),
            "is a stranger": Asked(path),
            "has a session of nobody's": Asked(path, headers=(("Cookie", "sessionid=none"),)),
        }
        assert differences(site, script) == []
        assert b"m\\u00fcller" in site.end(accept(site, script["posts"], RULE), cookie).body
        assert site.ask(script["posts without a token"].at(MARK)).status == 403


@pytest.mark.slow
@pytest.mark.parametrize("framework", TARGETS)
def test_workers_answer_byte_for_byte_below_a_root_path(framework: str, tmp_path: Path) -> None:
    with open_site(framework, tmp_path, root="/shop/v2") as site:
        assert differences(site, SCRIPT) == []


@pytest.mark.parametrize("framework", others_slow(["fastapi", "flask"], usual=0))
def test_a_celery_worker_answers_byte_for_byte_too(framework: str, tmp_path: Path) -> None:
    with RedisServer() as broker, open_site(framework, tmp_path, broker=broker) as site:
        assert differences(site, SCRIPT) == []


@pytest.mark.slow
@pytest.mark.parametrize("framework", TARGETS)
@pytest.mark.parametrize("is_chunked", [False, True], ids=["with a length", "chunked"])
def test_a_large_upload_comes_to_a_worker_whole_and_never_all_of_it_into_memory(
    framework: str, is_chunked: bool, tmp_path: Path
) -> None:
    if is_chunked and framework == "django":
        pytest.skip("Django reads no body without a length from a WSGI server")
    length = ("Content-Length", str(LARGE))
    pieces = [bytes([n]) * MIB for n in range(LARGE // MIB)]
    asked = Asked("/{way}/upload", "POST", () if is_chunked else (length,), pieces)
    expected = {"length": LARGE, "sha256": hashlib.sha256(b"".join(pieces)).hexdigest()}
    with open_site(framework, tmp_path) as site:
        small = replace(asked, headers=(), body=pieces[:2])
        site.end(accept(site, small, RULE))
        before = {pid: peak(pid) for pid in site.processes()}
        for way in (MARK, RULE):
            done = site.end(accept(site, asked, way))
            assert json.loads(done.body) == expected
        rises = {pid: peak(pid) - memory for pid, memory in before.items()}
        assert max(rises.values()) < 48 * MIB, rises


def peak(pid: int) -> int:
    """Return the most memory that a process has ever had, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
