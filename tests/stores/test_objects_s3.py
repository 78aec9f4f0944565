"""Objects on an S3 server: the one of TEST_S3_URL, else moto's, else these tests are skipped.

TEST_S3_URL is like `s3://bucket/prefix`; its server and credentials are in `AWS_…`, as obstore has
them.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import urllib.request
from collections.abc import Iterator

import pytest

from raincheck.contracts import Store
from raincheck.errors import BodyMissing
from raincheck.stores.memory import MemoryStore
from raincheck.stores.objects import with_bodies_at
from raincheck.stores.objects.storage import open_storage
from raincheck.testing import Clock, StoreContract
from raincheck.testing.material import HOUR
from tests.support.processes import ServerProcess

pytestmark = pytest.mark.server

if not os.environ.get("TEST_S3_URL") and importlib.util.find_spec("moto") is None:
    pytest.skip("TEST_S3_URL is not set, and there is no moto", allow_module_level=True)

LARGE = os.urandom(256 * 1024)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Return the URL of a place of its own."""
    with pytest.MonkeyPatch.context() as environment:
        if url := os.environ.get("TEST_S3_URL"):
            yield f"{url}/{secrets.token_hex(8)}"
            return
        with ServerProcess(["-m", "moto.server", "-H", "127.0.0.1", "-p", "{port}"]) as server:
            environment.setenv("AWS_ENDPOINT", server.url)
            environment.setenv("AWS_ALLOW_HTTP", "true")
            environment.setenv("AWS_REGION", "us-east-1")
            environment.setenv("AWS_ACCESS_KEY_ID", "test")
            environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
            make = urllib.request.Request(f"{server.url}/test-bucket", method="PUT")  # noqa: S310
            urllib.request.urlopen(make).close()  # noqa: S310 - on loopback
            yield "s3://test-bucket/some/prefix"


class TestObjectsInS3(StoreContract):
    """The contract, with objects on a server."""

    @pytest.fixture
    def shared(self) -> bool:
        return False

    @pytest.fixture
    def store(self, bucket: str, clock: Clock) -> Store:
        return with_bodies_at(MemoryStore(clock=clock), bucket)


def keys(bucket: str) -> list[str]:
    namespaces = open_storage(bucket).list("")
    return [entry.key for page in namespaces for entry in page]


def test_more_objects_than_a_page_holds_are_deleted(bucket: str) -> None:
    url = f"{bucket}/pages"
    store = with_bodies_at(MemoryStore(), url)
    for n in range(1010):
        store.write_chunk("../ä %", 1, n, LARGE)
    assert len(keys(url)) == 1010
    store.discard("../ä %")
    assert keys(url) == []


def test_leftovers_are_swept(bucket: str) -> None:
    url, clock = f"{bucket}/leftovers", Clock()
    store = with_bodies_at(MemoryStore(clock=clock), url)
    store.write_chunk("a", 1, 0, LARGE)
    clock.now += 2 * HOUR
    store.purge(clock.now)
    assert keys(url) == []
    with pytest.raises(BodyMissing):
        next(store.read_chunks("a", 1, 0, 1))
