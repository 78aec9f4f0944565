"""What caches and compressors around raincheck do with what a poll is told."""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import caches

from tests.django.site import path_of, serving
from tests.django.views import Gate

CACHE = "django.middleware.cache.CacheMiddleware"
SETTINGS: dict[str, Any] = {"CACHE_MIDDLEWARE_SECONDS": 600}


@pytest.fixture(autouse=True)
def _no_cache() -> Iterator[None]:
    caches["default"].clear()
    yield
    caches["default"].clear()


def test_the_status_is_the_one_of_now(way: str) -> None:
    with serving(way, around=[CACHE], settings=SETTINGS) as site:
        accepted = site.accepted("/held")
        status = path_of(accepted) + "/status"
        assert json.loads(site.call(status).content)["status"] == "running"
        fields = dict(site.call(status).headers)
        assert not [name for name in fields if name.lower() == b"expires"]
        Gate.opened.set()
        assert site.follow(accepted).status == 201
        assert json.loads(site.call(status).content)["status"] == "succeeded"


def test_a_response_that_was_deleted_is_gone_whatever_its_handler_says_of_caches(way: str) -> None:
    with serving(way, around=[CACHE], settings=SETTINGS, BUDGET=0) as site:
        accepted = site.accepted("/cookies", "POST")
        assert site.follow(accepted).status == 200
        assert site.call(path_of(accepted)).status == 200
        assert site.call(path_of(accepted), "DELETE").status == 204
        assert site.call(path_of(accepted)).status == 410


def test_no_ranges_are_offered_of_what_is_compressed_around(way: str) -> None:
    compressed = ["django.middleware.gzip.GZipMiddleware"]
    asked = [(b"range", b"bytes=5-9"), (b"accept-encoding", b"gzip")]
    with serving(way, around=compressed, BUDGET=0) as site:
        accepted = site.accepted("/stream")
        whole = site.follow(accepted).content
        answer = site.call(path_of(accepted), headers=asked)
        fields = {name.lower() for name, _ in answer.headers}
        assert answer.status == 200
        assert b"accept-ranges" not in fields
        assert gzip.decompress(answer.content) == whole


def test_ranges_are_offered_where_nobody_compresses(way: str) -> None:
    with serving(way, BUDGET=0) as site:
        accepted = site.accepted("/stream")
        site.follow(accepted)
        answer = site.call(path_of(accepted), headers=[(b"range", b"bytes=5-9")])
        assert (answer.status, len(answer.content)) == (206, 5)
