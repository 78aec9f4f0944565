"""A network that fails when it is told to: a proxy between a client and its server."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal, Self

Direction = Literal["up", "down"]  # to the server, or back to the client
PIECE = 64 * 1024  # bytes


class Proxy:
    """Forwards TCP connections to a server on loopback; its own address never changes.

    Args:
        target: The server's port; may be changed at any time.

    Attributes:
        delay: Seconds that each piece of an answer is held back.
        rate: Bytes per second and direction; None is no limit.
        accepted: How many connections have been made so far.
        carried: How many bytes have arrived so far, by direction.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.delay = 0.0
        self.rate: float | None = None
        self.accepted = 0
        self.carried: dict[Direction, int] = {"up": 0, "down": 0}
        self._refusing = False
        self._budget: dict[Direction, int] = {}  # bytes until everything is cut
        self._again: dict[Direction, int] = {}  # the same for the time after that
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._resumed = threading.Event()
        self._resumed.set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # `close` alone wakes no `accept`
        self._listener.close()
        self.cut()
        self._resumed.set()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._open) // 2

    # --- what can be told ------------------------------------------------------------------

    def cut(self) -> None:
        """Break off every open connection, in the middle of whatever it does."""
        with self._lock:
            cut, self._open = self._open, set()
            self._budget = dict(self._again)
        for end in cut:
            _break_off(end)

    def cut_after(self, size: int, direction: Direction = "down") -> None:
        """Cut everything once, after that many more bytes; 0 loses a whole answer (or request)."""
        with self._lock:
            self._budget[direction] = size

    @contextmanager
    def cutting_each(self, size: int, direction: Direction = "down") -> Iterator[None]:
        """Cut everything after that many bytes, again and again."""
        self._again = {direction: size}
        self.cut_after(size, direction)
        try:
            yield
        finally:
            self.forward()

    def refuse(self) -> None:
        """Break off every connection, and every new one."""
        with self._lock:
            self._refusing = True
        self.cut()

    def swallow(self) -> None:
        """Answer nothing any more, on old connections and new ones, and close none."""
        self._resumed.clear()

    def forward(self) -> None:
        """Work again: quickly, for old connections that are left and for new ones."""
        self.delay, self.rate, self._refusing = 0.0, None, False
        self._again, self._budget = {}, {}
        self._resumed.set()

    @contextmanager
    def failing(self, how: Literal["refuse", "swallow"]) -> Iterator[None]:
        """Fail in one way for a while, and work again."""
        getattr(self, how)()
        try:
            yield
        finally:
            self.forward()

    # --- what it does ----------------------------------------------------------------------

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # closed
            self.accepted += 1
            with self._lock:
                refused = self._refusing
                if not refused:
                    self._open.add(client)
            if refused:
                _break_off(client)
            else:
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._resumed.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            self._drop(client)
            return
        server.settimeout(None)
        with self._lock:
            lost = client not in self._open  # cut meanwhile
            if not lost:
                self._open.add(server)
        if lost:
            self._drop(server)
            return
        for ends in ((client, server, "up"), (server, client, "down")):
            threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        """Carry bytes one way until one end is closed, then close both."""
        try:
            while piece := source.recv(PIECE):
                self.carried[direction] += len(piece)
                self._hold_back(len(piece), direction)
                piece, ends = self._within_budget(piece, direction)
                sink.sendall(piece)
                if ends:
                    self.cut()
        except OSError:
            pass  # cut, or broken off by one of the ends: the other one is to notice
        self._drop(source)
        self._drop(sink)

    def _hold_back(self, size: int, direction: Direction) -> None:
        if direction == "down" and self.delay:
            time.sleep(self.delay)
        if self.rate:
            time.sleep(size / self.rate)
        self._resumed.wait()

    def _within_budget(self, piece: bytes, direction: Direction) -> tuple[bytes, bool]:
        with self._lock:
            if direction not in self._budget:
                return piece, False
            left = self._budget[direction]
            self._budget[direction] = left - len(piece)
            return piece[:left], len(piece) >= left

    def _drop(self, end: socket.socket) -> None:
        with self._lock:
            self._open.discard(end)
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def _break_off(end: socket.socket) -> None:
    """Close without a farewell, whatever has not been sent yet."""
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        end.shutdown(socket.SHUT_RDWR)
    end.close()
