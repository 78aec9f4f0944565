"""Real servers as child processes, started on a free port and always stopped."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
START_TIMEOUT = 60.0  # seconds; a machine under load is slow
PORTS = range(20_000, 32_000)  # below those of outgoing connections, one of which could take it
CLAIMS = 100  # ports; of those before, servers have been started, or they are over
_claims: deque[socket.socket] = deque()


def free_port() -> int:
    """Return a port that nobody listens on, and that no other process of the tests is given.

    It is claimed with a UDP socket on the same number, which no server here wants: between this
    call and the server's start another process, that looks for a port too, could take it.
    """
    for _ in range(1000):
        port = random.SystemRandom().choice(PORTS)
        claim = socket.socket(type=socket.SOCK_DGRAM)
        try:
            claim.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
            continue
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                claim.close()
                continue
        _claims.append(claim)
        if len(_claims) > CLAIMS:
            _claims.popleft().close()
        return port
    raise RuntimeError("there is no free port")


class ServerProcess:
    """A server in a process group of its own; leaving the context kills all of it.

    Args:
        command: What follows the Python interpreter, e.g. `["-m", "uvicorn", "app:app"]`;
            `{port}` in it stands for the port.
        cwd: Where to start it; the repository by default.
        env: Added to the environment.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        port: int | None = None,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [sys.executable, *(part.format(port=self.port) for part in command)]
        self._cwd = cwd
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        # A file and no pipe: nobody reads while the server runs, and a full pipe would stop it.
        self._log = tempfile.TemporaryFile("a+b")  # noqa: SIM115 - closed by __exit__

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._log.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._log.close()

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        self.process = subprocess.Popen(
            self._command,
            cwd=self._cwd,
            env=self._env,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._accepts():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._command} did not start:\n{self.kill()}")
            time.sleep(0.05)

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def pid(self) -> int:
        """The process id of the server (of the supervisor, if there are several processes)."""
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        """Send a signal to the server's first process."""
        os.kill(self.pid, number)

    def wait(self, timeout: float = 30.0) -> str:
        """Wait for its end and return what it printed."""
        assert self.process is not None
        self.process.wait(timeout)
        return self._printed()

    def _printed(self) -> str:
        return os.pread(self._log.fileno(), 2**24, 0).decode(errors="replace")

    def terminate(self, timeout: float = 30.0) -> str:
        """Ask it to stop, wait, and return what it printed."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> str:
        """Kill everything at once and return what it printed."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.wait()


def children(pid: int) -> list[int]:
    """Return the process ids of a process's children; one that has ended has none."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread has ended
                found += [int(child) for child in (task / "children").read_text().split()]
    return found
