"""What httpx's users rely on, below a transport that follows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from raincheck import ConfigurationError
from raincheck.client import (
    AsyncTransport,
    InvalidToken,
    LostTouch,
    Options,
    Progress,
    Transport,
    resume,
)
from tests.client.rough_server import BIG, HALF, PATIENCE, RoughServer

QUICK = Options(wait=0)


@pytest.fixture
def client(rough: RoughServer) -> Iterator[httpx.Client]:
    with httpx.Client(transport=Transport(options=QUICK), base_url=rough.url) as client:
        yield client


def test_httpx_streams_the_final_response_as_it_comes(
    client: httpx.Client, rough: RoughServer
) -> None:
    with client.stream("GET", "/start/drip") as response:
        received = 0
        for chunk in response.iter_bytes():
            received += len(chunk)
            if received == HALF:  # the server sends no more until this has arrived
                rough.goes_on.set()
    assert received == len(BIG)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_httpx_streams_the_final_response_as_it_comes_in_an_event_loop(
    backend: str, rough: RoughServer
) -> None:
    async def receive() -> int:
        received = 0
        transport = AsyncTransport(options=QUICK)
        async with (
            httpx.AsyncClient(transport=transport, base_url=rough.url) as client,
            client.stream("GET", "/start/drip") as response,
        ):
            async for chunk in response.aiter_bytes():
                received += len(chunk)
                if received == HALF:
                    rough.goes_on.set()
        return received

    assert anyio.run(receive, backend=backend) == len(BIG)


def test_httpx_sends_a_body_that_streams_once(client: httpx.Client, rough: RoughServer) -> None:
    response = client.post("/start/report", content=iter([b"a", b"b"]))
    assert response.text == "the report"
    assert rough.bodies[0] == b"ab"
    keyed = {"raincheck": Options(wait=0, idempotency_key=True)}
    with pytest.raises(httpx.RemoteProtocolError):  # it can't be sent again
        client.post("/lost_start", content=iter([b"a"]), extensions=keyed)
    assert rough.tries["/lost_start"] == 1


def test_httpx_calls_its_event_hooks_once(rough: RoughServer) -> None:
    seen: list[Any] = []
    hooks = {"request": [seen.append], "response": [seen.append]}
    with httpx.Client(transport=Transport(options=QUICK), event_hooks=hooks) as client:
        response = client.get(f"{rough.url}/start/rough")
    assert [type(event) for event in seen] == [httpx.Request, httpx.Response]
    assert response.request.url.path == "/start/rough"


class Signed(httpx.Auth):
    """Signs each request, and asks again with a newer signature when it is refused."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = "Signed 1"
        response = yield request
        if response.status_code == 401:
            yield request


def test_httpx_authentication_goes_with_the_polls_and_never_repeats_the_request(
    client: httpx.Client, rough: RoughServer
) -> None:
    assert client.post("/start/report", auth=Signed()).text == "the report"
    assert rough.asked("GET /report")[0]["authorization"] == "Signed 1"
    with pytest.raises(Exception, match="401"):
        client.post("/start/refused", auth=Signed())
    assert rough.tries["/start/refused"] == 1


def test_httpx_timeouts_hold_for_each_poll_and_leave_room_for_a_held_one(
    rough: RoughServer,
) -> None:
    timeout = httpx.Timeout(5, read=0.8)
    transport = Transport(options=Options(wait=5, patience=0))
    with httpx.Client(transport=transport, base_url=rough.url, timeout=timeout) as client:
        assert client.get("/start/holding").text == "the report"
        assert rough.lines == ["GET /start/holding", "GET /holding"]
        impatient = {"raincheck": Options(wait=0, patience=0)}
        with pytest.raises(LostTouch) as lost:
            client.get("/start/held", extensions=impatient)
    assert isinstance(lost.value.__cause__, httpx.ReadTimeout)


def test_httpx_cancels_the_operation_with_its_task(rough: RoughServer) -> None:
    async def give_up() -> None:
        async with httpx.AsyncClient(transport=AsyncTransport(), timeout=60) as client:
            with anyio.move_on_after(0.3) as scope:
                await client.get(f"{rough.url}/start/held")
            assert scope.cancelled_caught

    for backend in ("asyncio", "trio"):
        rough.cancelled.clear()
        anyio.run(give_up, backend=backend)
        assert rough.cancelled.wait(PATIENCE)


def test_httpx_progress_may_be_told_to_a_coroutine_function(rough: RoughServer) -> None:
    told: list[Progress] = []

    async def tell(progress: Progress) -> None:
        await anyio.lowlevel.checkpoint()
        told.append(progress)

    async def get() -> str:
        transport = AsyncTransport(options=Options(on_progress=tell))
        async with httpx.AsyncClient(transport=transport) as client:
            return (await client.get(f"{rough.url}/start/report")).text

    assert anyio.run(get) == "the report"
    assert told == [Progress()]


def test_httpx_requests_may_have_options_of_their_own(client: httpx.Client) -> None:
    tokens: list[str] = []
    client.get("/start/report", extensions={"raincheck": Options(on_token=tokens.append)})
    assert len(tokens) == 1
    with pytest.raises(ConfigurationError, match="is an Options"):
        client.get("/start/report", extensions={"raincheck": {"deadline": 1}})


def test_httpx_transports_wrap_others(rough: RoughServer) -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.method} {request.url}")
        if request.url.path == "/report":
            return httpx.Response(202, headers={"Location": "/r", "Retry-After": "0.01"})
        return httpx.Response(200, text="the report")

    async def answer_async(request: httpx.Request) -> httpx.Response:
        return answer(request)

    async def get() -> str:
        transport = AsyncTransport(httpx.MockTransport(answer_async), QUICK)
        async with httpx.AsyncClient(transport=transport) as client:
            return (await client.get("https://api.example/report")).text

    with httpx.Client(transport=Transport(httpx.MockTransport(answer), QUICK)) as client:
        assert client.get("https://api.example/report").text == "the report"
    assert anyio.run(get) == "the report"
    assert seen == ["GET https://api.example/report", "GET https://api.example/r"] * 2


def test_httpx_decodes_what_is_packed() -> None:
    import gzip

    def answer(request: httpx.Request) -> httpx.Response:
        packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        if request.url.path == "/report":
            body = gzip.compress(b'{"id": "7", "status": "running", "links": []}')
            return httpx.Response(202, headers=packed, stream=httpx.ByteStream(body))
        body = gzip.compress(b'{"id": "8"}')
        return httpx.Response(200, headers=packed, stream=httpx.ByteStream(body))

    options = Options(wait=0, place="/r/{id}")
    with httpx.Client(transport=Transport(httpx.MockTransport(answer), options)) as client:
        assert client.get("https://api.example/report").json() == {"id": "8"}


def test_httpx_resuming_needs_the_transport_and_a_token(
    client: httpx.Client, rough: RoughServer
) -> None:
    with pytest.raises(InvalidToken):
        resume("no token", client)
    tokens: list[str] = []
    client.get("/start/report", extensions={"raincheck": Options(on_token=tokens.append)})
    with httpx.Client() as plain, pytest.raises(ConfigurationError, match="Transport"):
        resume(tokens[0], plain)


def test_httpx_resuming_gives_no_credential_to_another_origin() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.path == "/report":
            return httpx.Response(202, headers={"Location": "https://other.example/r"})
        return httpx.Response(503 if len(seen) < 4 else 200)

    options = Options(wait=0, patience=0)
    transport = Transport(httpx.MockTransport(answer), options)
    with httpx.Client(transport=transport, headers={"X-Key": "secret"}) as client:
        with pytest.raises(LostTouch) as lost:
            client.get("https://api.example/report")
        response = resume(lost.value.token or "", client)
    assert response.status_code == 200
    assert [request.url.host for request in seen] == ["api.example"] + ["other.example"] * 3
    assert ["x-key" in request.headers for request in seen] == [True, False, False, False]


def test_httpx_response_of_a_handler_that_redirects_is_followed_as_the_client_says() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/report":
            return httpx.Response(202, headers={"Location": "/r"})
        if request.url.path == "/r":
            done = {"Location": "/there", "Operation-Status": "succeeded"}
            return httpx.Response(303, headers=done)
        return httpx.Response(200, text=f"{request.method} {request.url.path}")

    transport = Transport(httpx.MockTransport(answer), QUICK)
    with httpx.Client(transport=transport, base_url="https://api.example") as client:
        assert client.post("/report").status_code == 303
        assert client.post("/report", follow_redirects=True).text == "GET /there"


async def _chunks() -> AsyncIterator[bytes]:
    yield b"a"
    yield b"b"


def test_httpx_sends_a_body_that_streams_from_an_event_loop(rough: RoughServer) -> None:
    async def post() -> str:
        async with httpx.AsyncClient(transport=AsyncTransport(options=QUICK)) as client:
            return (await client.post(f"{rough.url}/start/report", content=_chunks())).text

    assert anyio.run(post) == "the report"
    assert rough.bodies[0] == b"ab"
