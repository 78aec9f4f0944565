"""The handler's own response, as R gives it."""

from __future__ import annotations

from urllib.parse import urljoin

import httpx
import pytest

from tests.gateways.following import (
    ANSWERS,
    assert_document,
    assert_problem,
    assert_same_but_for_own,
    end,
    fields_of,
    start,
    status,
)
from tests.gateways.gateways import Site


class Replaying:
    """The checks; see `contract`."""

    # --- the handler's response ----------------------------------------------------------------

    @pytest.mark.parametrize("path", ANSWERS)
    def test_r_gives_the_exact_response(
        self, client: httpx.Client, poller: httpx.Client, path: str
    ) -> None:
        accepted = start(client, path)
        end(poller, accepted)
        replayed, bare = client.get(accepted.headers["location"]), client.get(f"/bare{path}")
        assert_same_but_for_own(replayed, bare)
        state = "failed" if bare.status_code >= 400 else "succeeded"
        assert replayed.headers["operation-status"] == state
        assert replayed.headers["cache-control"] == "no-store"
        if bare.status_code != 204:
            assert int(replayed.headers["content-length"]) == len(bare.content)

    def test_m_tells_of_the_end(self, client: httpx.Client, poller: httpx.Client) -> None:
        good, bad = start(client, "/fast"), start(client, "/status?code=503")
        for accepted in (good, bad):
            end(poller, accepted)
        document = status(client, good)
        assert_document(document, "succeeded")
        assert document["response"] == {"status": 200}
        assert document["resourceLocation"] == good.headers["location"]
        document = status(client, bad)
        assert_document(document, "failed")
        assert document["response"] == {"status": 503}
        assert document["error"]["code"] == "http_503"

    def test_the_result_is_what_r_gives(self, client: httpx.Client, poller: httpx.Client) -> None:
        accepted = start(client, "/binary")
        end(poller, accepted)
        url = accepted.headers["location"]
        response, result, again = client.get(url), client.get(f"{url}/result"), client.get(url)
        assert fields_of(response) == fields_of(result) == fields_of(again)
        assert response.content == result.content == again.content

    def test_a_head_of_r_has_the_fields_of_a_get(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/binary")
        got = end(poller, accepted)
        headed = client.head(accepted.headers["location"])
        assert (headed.status_code, headed.content) == (200, b"")
        assert fields_of(headed) == fields_of(got)

    def test_r_is_not_modified_for_who_has_it(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/binary")
        url, tag = accepted.headers["location"], end(poller, accepted).headers["etag"]
        unchanged = client.get(url, headers={"If-None-Match": tag})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
        assert client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200
        assert_problem(client.get(url, headers={"If-Match": '"other"'}), 412, "precondition-failed")

    def test_ranges_of_r(self, client: httpx.Client, poller: httpx.Client) -> None:
        accepted = start(client, "/binary")
        url, whole = accepted.headers["location"], end(poller, accepted).content
        for wanted, part in (("10-19", whole[10:20]), ("250-", whole[250:]), ("-3", whole[-3:])):
            got = client.get(url, headers={"Range": f"bytes={wanted}"})
            assert (got.status_code, got.content) == (206, part)
            assert got.headers["content-length"] == str(len(part))
        beyond = client.get(url, headers={"Range": "bytes=9999-"})
        assert_problem(beyond, 416, "range-not-satisfiable")
        assert beyond.headers["content-range"] == f"bytes */{len(whole)}"

    def test_a_final_202_does_not_make_pollers_loop(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/final-202")
        end(poller, accepted)
        response = client.get(accepted.headers["location"])
        assert (response.status_code, response.content) == (200, b"somebody else goes on\n")
        assert response.headers["operation-result-status"] == "202"
        assert status(client, accepted)["response"] == {"status": 202}

    def test_what_is_relative_leads_from_r_to_where_it_led(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/beside/here?page=1")
        end(poller, accepted)
        response = client.get(accepted.headers["location"])
        asked, polled = str(accepted.request.url), str(response.request.url)
        assert (response.status_code, response.content) == (303, b"see there\n")
        for name, reference in (("location", "there?order=5"), ("content-location", "./copy")):
            assert urljoin(polled, response.headers[name]) == urljoin(asked, reference)
        assert response.headers["link"] == '</beside/here?page=2>; rel="next"'

    def test_an_upload_comes_back_from_r(self, client: httpx.Client, poller: httpx.Client) -> None:
        sent = bytes(range(256)) * 1_000
        accepted = start(client, "/echo", method="POST", content=sent)
        end(poller, accepted)
        assert client.get(accepted.headers["location"]).content == sent

    def test_a_failing_handler_is_a_500(self, site: Site, poller: httpx.Client) -> None:
        accepted = start(poller, "/failing")
        response, document = end(poller, accepted), status(poller, accepted)
        assert_document(document, "failed")
        assert response.headers["operation-status"] == "failed"
        if site.gateway.raises:
            assert_problem(response, 500, "exception")
            assert document["error"]["code"] == "exception"
        else:
            assert_same_but_for_own(response, poller.get("/bare/failing"))
            assert document["error"]["code"] == "http_500"

    def test_a_deferred_request_with_a_wrong_method_is_the_frameworks_405(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(client, "/fast", method="DELETE")
        end(poller, accepted)
        response, bare = client.get(accepted.headers["location"]), client.delete("/bare/fast")
        assert_same_but_for_own(response, bare)
        assert (response.status_code, "allow" in response.headers) == (405, True)
