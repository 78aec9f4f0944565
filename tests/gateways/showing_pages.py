"""What a browser is shown: pages instead of JSON, and the form by which it cancels."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.gateways.following import (
    ASK,
    assert_problem,
    cancelled,
    end,
    fields_of,
    start,
    status,
    until,
)
from tests.gateways.gateways import Site
from tests.gateways.transcript import Transcript

NAVIGATION = {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en",
}
UNKNOWN = "/operations/" + "0" * 32


def navigate(client: httpx.Client, url: str, method: str = "GET", **more: Any) -> httpx.Response:
    """Ask for a page as browsers do."""
    return client.request(method, url, headers=NAVIGATION | more.pop("headers", {}), **more)


def assert_page(response: httpx.Response, code: int, title: str) -> None:
    assert response.status_code == code, response.text
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert f">{title}</h1>" in response.text
    assert int(response.headers["content-length"]) == len(response.content) < 6 * 1024


class ShowingPages:
    """The checks; see `contract`."""

    # --- pages ----------------------------------------------------------------------------------

    def test_a_browser_is_led_to_where_it_waits_and_finds_the_response(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        response = navigate(client, "/slow", params={"seconds": 1.5})
        assert response.status_code == 303
        assert_page(navigate(client, response.headers["location"]), 202, "Working on it")
        replayed = end(poller, response)
        shown = navigate(poller, response.headers["location"].removesuffix("?waiting"))
        assert (shown.status_code, shown.content) == (replayed.status_code, replayed.content)
        assert fields_of(shown) == fields_of(replayed)

    def test_a_link_of_the_result_that_has_only_a_query_leads_to_its_route(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        accepted = start(poller, "/status", params={"code": 200})
        assert end(poller, accepted).status_code == 200
        url = accepted.headers["location"]
        response = navigate(client, url + "?code=404&q=%C3%A4", headers={"Referer": url})
        assert response.status_code == 303
        assert response.headers["location"].endswith("/status?code=404&q=%C3%A4")
        assert navigate(client, response.headers["location"]).status_code == 404

    def test_a_page_cancels_by_its_form(self, client: httpx.Client, poller: httpx.Client) -> None:
        page = navigate(client, "/patient", headers=ASK)
        assert_page(page, 202, "Working on it")
        [action] = re.findall(r'action="([^"]+)"', page.text)
        url = urljoin(str(page.request.url), action)
        after = navigate(client, url, "POST")
        assert after.status_code == 303
        assert page.headers["location"].endswith(
            f"/{after.headers['location'].removesuffix('?waiting')}"
        )
        assert end(poller, page).status_code == 410
        assert_page(navigate(client, page.headers["location"]), 410, "Cancelled")

    def test_a_form_that_is_not_of_the_page_cancels_nothing(
        self, client: httpx.Client, poller: httpx.Client
    ) -> None:
        response = navigate(client, "/patient", headers=ASK)
        url = response.headers["location"]
        for query in ("?cancel=", "?cancel=wrong"):
            assert_page(navigate(client, url + query, "POST"), 403, "Not allowed")
            assert_problem(client.post(url + query), 403, "forbidden")
        assert_problem(client.post(url), 405, "method-not-allowed")
        assert_problem(client.post(url + "/status?cancel="), 405, "method-not-allowed")
        assert status(poller, response)["status"] == "running"
        cancelled(poller, response)

    def test_what_a_browser_may_not_see_is_the_page_of_what_is_not_there(
        self, site: Site, transcript: Transcript, client: httpx.Client
    ) -> None:
        with site.client("annes") as anne, site.client("bobs", transcript) as bob:
            accepted = start(anne, "/patient")
            until(anne, accepted, "status", "running")
            other = navigate(bob, accepted.headers["location"])
            unknown = navigate(bob, UNKNOWN)
            assert_page(other, 404, "Not found")
            assert (other.content, fields_of(other)) == (unknown.content, fields_of(unknown))
            forged = navigate(bob, accepted.headers["location"] + "?cancel=x", "POST")
            assert forged.status_code == 404
            cancelled(anne, accepted)
        assert_page(navigate(client, "/operations/no-id/at/all"), 404, "Not found")

    def test_a_busy_server_says_so_on_a_page(self, site: Site, transcript: Transcript) -> None:
        with site.client("full", transcript) as client:
            busy = navigate(client, "/fast", headers=ASK)
            assert_page(busy, 503, "Too busy just now")
            assert busy.headers["refresh"] == busy.headers["retry-after"]

    def test_htmx_gets_a_part_that_polls(self, client: httpx.Client, poller: httpx.Client) -> None:
        part = start(client, "/patient", headers={"HX-Request": "true"})
        [path] = re.findall(r'hx-get="([^"]+)"', part.text)
        again = client.get(path, headers={"HX-Request": "true"})
        assert (again.status_code, 'hx-swap="outerHTML"' in again.text) == (202, True)
        cancelled(poller, part)
