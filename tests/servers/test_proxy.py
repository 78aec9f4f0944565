"""The URLs of a 202 lead to its operation through a real proxy, however that maps paths."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.material import content
from tests.servers.servers import ANY, DEFERRED, Site, http_client, status, wait_until
from tests.support.polling import poll
from tests.support.processes import free_port

NGINX = shutil.which("nginx")
pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed"),
]


@dataclass(frozen=True)
class Mapping:
    """One way to put an application behind a proxy.

    Attributes:
        inside: What the proxy makes of `/{name}` at the start of a path.
        keeps_host: Whether the application sees the `Host` that the client sent; None: as nginx
            does it by itself.
        public: Whether `public_url` says where the outside sees the application.
    """

    name: str
    inside: str
    keeps_host: bool | None = True
    app: str = "app"
    arguments: tuple[str, ...] = ()
    public: bool = False
    options: dict[str, Any] = field(default_factory=dict)


MAPPINGS = [
    Mapping("told", inside="", arguments=("--root-path", "/told")),
    Mapping("sub", inside="/sub", app="mounted"),
    Mapping("unaware", inside="", options={"location": "relative"}),
    Mapping("remapped", inside="/sub", app="mounted", options={"location": "relative"}),
    Mapping("public", inside="", keeps_host=False, public=True),
    Mapping("default", inside="", keeps_host=None, public=True),
]


def location_block(mapping: Mapping, upstream: str) -> str:
    """Configure one mapping; nginx is not to repair a `Location` on the way."""
    host = "$http_host" if mapping.keeps_host else "inside.invalid"
    header = "" if mapping.keeps_host is None else f"proxy_set_header Host {host};"
    return f"""
        location /{mapping.name}/ {{
            proxy_pass {upstream}{mapping.inside}/;
            {header}
            proxy_redirect off;
        }}"""


def configuration(port: int, blocks: list[str]) -> str:
    """Configure an nginx that runs in the foreground and writes below its own directory."""
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "\n".join(f"    {kind}_temp_path {kind};" for kind in temporary)
    return f"""
daemon off;
master_process off;
pid nginx.pid;
events {{}}
http {{
    access_log off;
{paths}
    server {{
        listen 127.0.0.1:{port};
{"".join(blocks)}
    }}
}}
"""


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def run_nginx(port: int, directory: Path, blocks: list[str]) -> Iterator[None]:
    """Run nginx; its messages go to those of the tests."""
    file = directory / "nginx.conf"
    file.write_text(configuration(port, blocks))
    command = [str(NGINX), "-p", str(directory), "-c", str(file), "-e", "stderr"]
    with subprocess.Popen(command) as process:
        try:
            wait_until(lambda: process.poll() is not None or accepts(port), "nginx accepts")
            yield
        finally:
            process.terminate()


def place(mapping: Mapping, proxy: str, directory: Path) -> Site:
    """Describe the application behind one mapping."""
    (own := directory / mapping.name).mkdir()
    options = dict(mapping.options)
    if mapping.public:
        options["public_url"] = f"{proxy}/{mapping.name}"
    return Site(
        ANY,
        own,
        app=mapping.app,
        arguments=mapping.arguments,
        budget=0.1,
        **options,
    )


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of an nginx that has all mappings."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    directory = tmp_path_factory.mktemp("nginx")
    with ExitStack() as stack:
        blocks = []
        for mapping in MAPPINGS:
            site = place(mapping, url, directory)
            stack.enter_context(site.process)
            blocks.append(location_block(mapping, site.url))
        stack.enter_context(run_nginx(port, directory, blocks))
        yield url


@pytest.fixture
def client(proxy: str) -> Iterator[httpx.Client]:
    with http_client(proxy) as client:
        yield client


by_mapping = pytest.mark.parametrize("mapping", MAPPINGS, ids=lambda mapping: mapping.name)
QUERY = DEFERRED | {"seconds": 0.6, "seed": 1, "size": 10_000}


@by_mapping
@pytest.mark.parametrize("path", ["slow", "slow/", "slow/a/deep/path"])
def test_the_location_of_a_202_leads_to_its_operation(
    client: httpx.Client, proxy: str, mapping: Mapping, path: str
) -> None:
    start = client.get(f"/{mapping.name}/{path}", params=QUERY)
    assert start.status_code == 202
    location = start.url.join(start.headers["location"])
    assert str(location).startswith(f"{proxy}/{mapping.name}/operations/")
    response = poll(client, str(location))
    assert (response.status_code, response.content) == (200, content(1, 10_000))


@by_mapping
def test_every_reference_of_every_answer_leads_to_the_same_operation(
    client: httpx.Client, mapping: Mapping
) -> None:
    start = client.get(f"/{mapping.name}/slow/a", params=QUERY | {"seconds": 60})
    r = start.url.join(start.headers["location"])
    m = start.url.join(start.headers["operation-location"])
    assert client.get(m).json()["id"] == start.json()["id"]
    for answer in (start, client.get(r)):
        assert answer.status_code == 202
        assert answer.url.join(answer.headers["location"]) == r
        assert answer.url.join(answer.headers["content-location"]) == r
        assert answer.url.join(answer.headers["operation-location"]) == m
        assert answer.url.join(answer.links["status"]["url"]) == m
    for answer in (start, client.get(r), client.get(m)):
        links = answer.json()["links"]
        assert [answer.url.join(links[name]) for name in ("response", "status")] == [r, m]


@by_mapping
def test_an_operation_can_be_cancelled_where_its_location_says(
    client: httpx.Client, mapping: Mapping
) -> None:
    start = client.get(f"/{mapping.name}/blocked")
    location = str(start.url.join(start.headers["location"]))
    assert client.delete(location).json()["status"] == "cancelling"
    assert poll(client, location).status_code == 410
    assert status(client, start)["status"] == "canceled"
