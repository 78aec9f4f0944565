"""Links that hand a response to somebody else for a while."""

from __future__ import annotations

import httpx

from tests.gateways.following import assert_problem, end, start, status
from tests.gateways.gateways import Site
from tests.gateways.transcript import Transcript


class Signing:
    """The checks; see `contract`. The variants belong to two owners and share their secret."""

    def test_a_signed_link_shows_the_response_to_somebody_else(
        self, site: Site, transcript: Transcript
    ) -> None:
        with site.client("annes") as anne, site.client("bobs", transcript) as bob:
            accepted = start(anne, "/fast")
            end(anne, accepted)
            signed = status(anne, accepted)["links"]["signed"]
            url = accepted.headers["location"]
            assert signed.startswith(httpx.URL(url).path + "?signature=")
            assert bob.get(signed).content == b"fast\n"
            for tail in ("", "/status", "/result"):
                assert_problem(bob.get(url + tail), 404, "not-found")
            assert_problem(bob.get(signed + "x"), 404, "not-found")
            assert_problem(bob.delete(signed), 404, "not-found")
            assert anne.get(url).content == b"fast\n"

    def test_a_guest_that_follows_what_it_is_told_to_stays_one(
        self, site: Site, transcript: Transcript
    ) -> None:
        with (
            site.client("annes") as anne,
            site.client("bobs", transcript) as bob,
            site.client("bobs") as poller,
        ):
            accepted = start(anne, "/patient")
            signed = accepted.json()["links"]["signed"]
            running = bob.get(signed)
            assert running.status_code == 202
            document = status(bob, running)
            assert "signed" not in running.json()["links"] | document["links"]
            for link in document["links"].values():
                assert bob.get(link).headers["retry-after"]
            assert anne.delete(accepted.headers["location"]).status_code == 202
            assert_problem(end(poller, running), 410, "canceled")

    def test_the_owner_gets_no_other_signature_by_a_signed_link(
        self, site: Site, transcript: Transcript
    ) -> None:
        with site.client("annes", transcript) as anne:
            signed = start(anne, "/patient").json()["links"]["signed"]
            assert "signed" not in anne.get(signed).json()["links"]
            assert anne.delete(signed).status_code == 202
