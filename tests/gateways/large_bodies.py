"""Bodies of 60 MB, in both directions; larger ones are tested with each store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from tests.gateways.applications.handlers import numbered
from tests.gateways.following import (
    PROBLEM,
    assert_echo,
    assert_upload_over_the_limit_arrives,
    start,
    status,
    until,
)
from tests.gateways.gateways import Site

LARGE = 60_000_000  # bytes
UPLOAD = bytes(range(250)) * (LARGE // 250)
GROWTH = 32 * 1024 * 1024  # bytes that the server's memory may grow by for a large response


class LargeBodies:
    """The checks; see `contract`."""

    def test_a_large_response_is_kept_and_sent_in_pieces(self, site: Site) -> None:
        expected = _hash(numbered(LARGE))
        with site.client() as client:
            site.forget_peaks()
            before = site.peaks()
            accepted = start(client, f"/large?size={LARGE}")
            until(client, accepted, "status", "succeeded")
            with client.stream("GET", accepted.headers["location"]) as response:
                assert response.headers["content-length"] == str(LARGE)
                assert _hash(response.iter_bytes()) == expected
            growth = {pid: peak - before[pid] for pid, peak in site.peaks().items()}
        assert max(growth.values()) < GROWTH

    def test_a_response_over_the_limit_says_so(self, site: Site) -> None:
        with site.client("small") as client:
            accepted = start(client, f"/large?size={LARGE}")
            until(client, accepted, "status", "failed")
            assert status(client, accepted)["error"]["code"] == "response_too_large"
            response = client.get(accepted.headers["location"])
            assert (response.status_code, response.headers["content-type"]) == (500, PROBLEM)

    def test_a_large_upload_is_deferred_where_the_limit_allows_it(self, site: Site) -> None:
        with site.client("generous") as client:
            accepted = start(client, "/echo", method="POST", content=UPLOAD)
            until(client, accepted, "status", "succeeded")
            assert_echo(client.get(accepted.headers["location"]), UPLOAD)

    def test_a_large_upload_over_the_limit_arrives_whole(self, site: Site) -> None:
        assert_upload_over_the_limit_arrives(site, "", UPLOAD)


def _hash(chunks: Iterator[bytes]) -> str:
    found = hashlib.sha256()
    for chunk in chunks:
        found.update(chunk)
    return found.hexdigest()
