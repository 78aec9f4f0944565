"""A client that polls as the README tells people to."""

from __future__ import annotations

import time

import httpx


def poll(client: httpx.Client, location: str, *, timeout: float = 30.0) -> httpx.Response:
    """Poll R until it is no 202 any more; faster than `Retry-After`, for the tests' sake."""
    deadline = time.monotonic() + timeout
    while True:
        response = client.get(location)
        if response.status_code != 202:
            return response
        if time.monotonic() > deadline:
            raise TimeoutError(f"{location} still answers 202 after {timeout} s: {response.text}")
        time.sleep(0.02)
