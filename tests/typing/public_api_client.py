"""The client's names as their users type them; never run, only checked (mypy and pyright)."""

from __future__ import annotations

from datetime import datetime
from typing import assert_type

import httpx
import requests
from requests.adapters import HTTPAdapter

from raincheck import RaincheckError
from raincheck.client import (
    Adapter,
    AsyncTransport,
    DeadlineExceeded,
    FollowError,
    Options,
    Progress,
    Transport,
    resume,
    resume_async,
    resume_session,
)


def show(progress: Progress) -> None:
    assert_type(progress.completed, float | None)
    assert_type(progress.total, float | None)
    assert_type(progress.message, str | None)
    assert_type(progress.estimate, datetime | None)


async def show_in_a_loop(progress: Progress) -> None:
    show(progress)


def in_a_thread(tokens: list[str]) -> httpx.Response:
    options = Options(deadline=None, wait=5, on_progress=show, on_token=tokens.append)
    transport: httpx.BaseTransport = Transport(httpx.HTTPTransport(retries=2), options)
    with httpx.Client(transport=transport) as client, Transport(options=options):
        try:
            return client.get("/", extensions={"raincheck": Options(deadline=5, cancel=False)})
        except DeadlineExceeded as late:
            assert_type(late.token, str | None)
            assert_type(late.status, int | None)
            return resume(late.token or "", client, options=options, stream=True)


async def in_a_loop() -> httpx.Response:
    transport: httpx.AsyncBaseTransport = AsyncTransport(
        options=Options(on_progress=show_in_a_loop)
    )
    async with httpx.AsyncClient(transport=transport) as client:
        return await resume_async("token", client)


def with_requests() -> requests.Response:
    session = requests.Session()
    session.mount("https://", Adapter(options=Options(place="/status/{id}", strict=True)))
    session.mount("http://", Adapter(HTTPAdapter(max_retries=2)))
    return resume_session("token", session, timeout=5)


def caught(error: FollowError) -> RaincheckError:
    return error
