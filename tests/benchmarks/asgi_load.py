"""Servers to measure, and a load client that costs them nothing: it is another process."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from tests.benchmarks.asgi_apps import Target
from tests.support.processes import ServerProcess

CONNECTIONS = 32
TICKS = os.sysconf("SC_CLK_TCK")


def uvicorn(port: int | str) -> list[str]:
    """Return the arguments with which Python runs uvicorn on its fastest parts."""
    return [
        *("-m", "uvicorn", "tests.benchmarks.asgi_apps:create", "--factory"),
        *("--interface", "asgi3", "--loop", "uvloop", "--http", "httptools"),
        *("--port", str(port), "--no-access-log", "--log-level", "error"),
        *("--timeout-keep-alive", "60"),
    ]


def serve(target: Target) -> ServerProcess:
    """Return a server for a target; entering its context starts it."""
    return ServerProcess(uvicorn("{port}"), env=target.environment())


def memory(pid: int, field: str) -> float:
    """Return a field of a process's status, in KiB: `VmRSS`, or `VmHWM` for the peak of it."""
    status = Path(f"/proc/{pid}/status").read_text()
    return float(next(line.split()[1] for line in status.splitlines() if line.startswith(field)))


def cpu_seconds(pid: int) -> float:
    """Return how long a process has computed, in its own code and in the system's."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def request(path: str, *headers: str) -> bytes:
    """Write a GET request."""
    lines = (f"GET {path} HTTP/1.1", "Host: localhost", *headers)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


def load(
    port: int,
    message: bytes,
    number: int = sys.maxsize,
    *,
    seconds: float = math.inf,
    status: int = 200,
    connections: int = CONNECTIONS,
    stagger: float = 0.0,
) -> list[float]:
    """Send a request again and again over keep-alive connections; return seconds to each answer.

    Args:
        number: How often.
        seconds: For how long.
        status: What every answer must have.
        stagger: Seconds between the first requests of two connections.
    """

    async def run() -> list[float]:
        end = time.perf_counter() + seconds
        turns = takewhile(lambda _: time.perf_counter() < end, range(number))
        clients = (
            _Client(port, message, status).run(turns, n * stagger) for n in range(connections)
        )
        return [each for times in await asyncio.gather(*clients) for each in times]

    return asyncio.run(run())


class _Client:
    def __init__(self, port: int, message: bytes, status: int) -> None:
        self._port = port
        self._message = message
        self._expected = b"HTTP/1.1 %d " % status

    async def run(self, turns: Iterator[int], delay: float) -> Sequence[float]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.sleep(delay)
        times = []
        for _ in turns:
            begin = time.perf_counter()
            writer.write(self._message)
            await self._read_answer(reader)
            times.append(time.perf_counter() - begin)
        writer.close()
        await writer.wait_closed()
        return times

    async def _read_answer(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(self._expected):
            raise RuntimeError(f"expected {self._expected!r}, got {head!r}")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
        if b"content-length" in fields:
            await reader.readexactly(int(fields[b"content-length"]))
        else:
            while await self._read_chunk(reader):
                pass

    async def _read_chunk(self, reader: asyncio.StreamReader) -> int:
        size = int(await reader.readuntil(b"\r\n"), 16)
        await reader.readexactly(size + len(b"\r\n"))
        return size
