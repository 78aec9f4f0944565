"""Where operations are found: mounts, proxies, other URLs, and a monitor mounted as a route."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit
from wsgiref.util import shift_path_info

import pytest

from raincheck.monitor.links import Resource
from raincheck.wsgi import MOUNTED
from tests.support.wire import assert_problem, document
from tests.support.wsgi import call, follow, path_of, wrap
from tests.wsgi.test_promotion import Slow, answer

ROOTS = ["", "/v1", "/é", "/a b", "/%41"]
PATHS = ["/", "/x", "/x/y/", "/é/ü", "/a%20b", "/100%", "/x;a=1/:y"]


@pytest.fixture
def slow() -> Iterator[Slow]:
    """Return a slow application that ends with its test."""
    app = Slow()
    yield app
    app.go.set()


def raw(path: str) -> str:
    return path.encode().decode("latin-1")


def open_url(app: Any, url: str, root: str, **more: Any) -> Any:
    """Ask for a URL as a server does that mounts the application at `root`."""
    path = unquote(urlsplit(url).path)
    assert path.startswith(root), (path, root)
    return call(app, path[len(root) :], SCRIPT_NAME=raw(root), **more)


@pytest.mark.parametrize("says_raw_path", ["RAW_URI", "REQUEST_URI", None])
@pytest.mark.parametrize("location", ["absolute", "path", "relative"])
@pytest.mark.parametrize("root", ROOTS)
def test_location_resolves_to_r_wherever_the_application_lies(
    slow: Slow, root: str, location: str, says_raw_path: str | None
) -> None:
    app = wrap(slow, budget=0, location=location)
    for path in PATHS:
        url = quote(root + path)
        more: dict[str, Any] = {says_raw_path: f"{url}?q=/1/2"} if says_raw_path else {}
        accepted = call(app, path, SCRIPT_NAME=raw(root), QUERY_STRING="q=/1/2", **more)
        target = urljoin(f"http://testserver{url}", accepted.header(b"location").decode())
        assert target.startswith(f"http://testserver{quote(root)}/operations/"), path
        assert open_url(app, target, root).status == 202, path


def test_https_and_other_ports_are_seen(slow: Slow) -> None:
    app = wrap(slow, budget=0)
    secure: dict[str, Any] = {"wsgi.url_scheme": "https", "HTTP_HOST": "example.org:8443"}
    accepted = call(app, **secure)
    assert accepted.header(b"location").startswith(b"https://example.org:8443/operations/")


def test_without_a_host_the_servers_name_is_used(slow: Slow) -> None:
    accepted = call(wrap(slow, budget=0), HTTP_HOST="")
    assert accepted.header(b"location").startswith((b"/operations/", b"http://testserver:80/"))


def test_a_host_that_is_none_is_in_no_url(slow: Slow) -> None:
    accepted = call(wrap(slow, budget=0), HTTP_HOST="evil.org/x?")
    assert accepted.header(b"location").startswith(b"/operations/")


@pytest.mark.parametrize("port", ["", "\xb2", "\u0661", "9" * 5_000, "123456", "-1", "80 "])
def test_a_port_that_is_none_breaks_no_request(slow: Slow, port: str) -> None:
    app = wrap(slow, budget=0)
    # Behind a unix socket gunicorn takes both from the Host.
    accepted = call(app, "/x", SERVER_PORT=port, REMOTE_PORT=port, HTTP_HOST=f"h:{port}")
    location = accepted.header(b"location").decode()
    assert location.startswith(("/operations/", "http://h:/operations/"))
    assert call(app, location.removeprefix("http://h:"), SERVER_PORT=port).status == 202


def test_the_public_url_wins(slow: Slow) -> None:
    app = wrap(slow, budget=0, public_url="https://example.org/api")
    accepted = call(app, "/x", SCRIPT_NAME="/internal")
    assert accepted.header(b"location").startswith(b"https://example.org/api/operations/")


# --- a monitor that the application mounts itself ------------------------------------------------


class Site:
    """An application with a route for operations, behind its own authentication."""

    def __init__(self, slow: Slow, at: str = "/pending") -> None:
        self.slow, self.at = slow, at

    def status_url(self, environ: Any, operation_id: str) -> str:
        root = environ.get("SCRIPT_NAME", "").encode("latin-1").decode()
        return quote(f"{root}{self.at}/{operation_id}")

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode()
        if not path.startswith(f"{self.at}/"):
            return self.slow(environ, start_response)
        if environ.get("HTTP_X_USER") != "ann":
            start_response("401 Unauthorized", [])
            return [b"who?"]
        operation_id, _, rest = path.removeprefix(f"{self.at}/").partition("/")
        resource = Resource(f"/{rest}" if rest else "")
        show: Any = environ["raincheck.monitor"]
        return show(environ, start_response, operation_id, resource)  # type: ignore[no-any-return]


ANN = [(b"x-user", b"ann")]


@pytest.mark.parametrize("budget", [0, 60])
@pytest.mark.parametrize("at", ["/pending", "/é", "/a b"])
@pytest.mark.parametrize("root", ["", "/v1", "/é"])
def test_a_mounted_monitor_is_polled_through_the_application(
    slow: Slow, root: str, at: str, budget: float
) -> None:
    site = Site(slow, at)
    app = wrap(site, budget=budget, status_url=site.status_url)
    asynchronous = [(b"prefer", b"respond-async")]
    accepted = call(app, "/thing", headers=asynchronous, SCRIPT_NAME=raw(root))
    url = accepted.header(b"location").decode()
    assert url.startswith(f"http://testserver{quote(root + at)}/")
    assert open_url(app, url, root).status == 401
    running = open_url(app, url, root, headers=ANN)
    assert (running.status, running.header(b"location").decode()) == (202, url)
    status = open_url(app, f"{url}/status", root, headers=ANN)
    assert (status.status, document(status)["status"]) == (200, "running")
    slow.go.set()
    path = unquote(url).removeprefix(f"http://testserver{root}")
    done = follow_at(app, path, SCRIPT_NAME=raw(root))
    assert (done.status, done.content) == (200, b"done")
    assert slow.calls == 1
    assert open_url(app, url, root, headers=ANN, method="DELETE").status == 204


def follow_at(app: Any, path: str, **more: Any) -> Any:
    class Accepted:
        error, status = None, 202

        def header(self, _: bytes) -> bytes:
            return path.encode()

    return follow(app, Accepted(), ANN, **more)  # type: ignore[arg-type]


def test_a_mounted_monitor_leaves_the_prefix_to_the_application(slow: Slow) -> None:
    site = Site(slow)
    slow.go.set()
    app = wrap(site, budget=60, status_url=site.status_url)
    assert call(app, "/operations/" + "0" * 32).content == b"done"


def test_a_mounted_monitor_is_not_deferred_itself(slow: Slow) -> None:
    site = Site(slow)
    app = wrap(site, budget=0, status_url=site.status_url)
    unknown = call(app, "/pending/" + "0" * 31 + "1", headers=ANN)
    assert_problem(unknown, 404, "not-found")
    assert slow.calls == 0


def test_a_monitor_may_lie_in_another_application_that_a_dispatcher_calls(slow: Slow) -> None:
    site = Site(slow, "")

    def dispatcher(environ: Any, start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith("/pending/"):
            shift_path_info(environ)
            return site(environ, start_response)
        if slow.go.is_set():
            return answer(start_response)
        return slow(environ, start_response)

    for location in ("absolute", "path", "relative"):
        app = wrap(
            dispatcher,
            budget=0,
            location=location,
            status_url=lambda environ, i: f"{environ['SCRIPT_NAME']}/pending/{i}",
        )
        url = "http://testserver/v1/a/b"
        accepted = call(app, "/a/b", SCRIPT_NAME="/v1")
        for _ in range(2):  # also the links that R gives lead to R
            url = urljoin(url, accepted.header(b"location").decode())
            assert url.startswith("http://testserver/v1/pending/")
            accepted = open_url(app, url, "/v1", headers=ANN)
            assert accepted.status == 202


def test_the_202_of_each_request_leads_to_where_status_url_says_for_it() -> None:
    def tenant_url(environ: Any, operation_id: str) -> str:
        return f"/{environ['PATH_INFO'].split('/')[1]}/pending/{operation_id}"

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        if MOUNTED not in environ:
            return answer(start_response)
        operation_id = environ["PATH_INFO"].rpartition("/")[2]
        shown: Iterable[bytes] = environ[MOUNTED](
            environ, start_response, operation_id, Resource.RESPONSE
        )
        return shown

    wrapped = wrap(app, budget=0, status_url=tenant_url)
    for tenant in ("acme", "globex"):
        accepted = call(wrapped, f"/{tenant}/report")
        assert path_of(accepted).startswith(f"/{tenant}/pending/")
        assert follow(wrapped, accepted).status == 200
