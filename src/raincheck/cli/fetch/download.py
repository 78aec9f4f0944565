"""The response's body on its way to a file: also in parts, after a connection was lost."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import httpx

from raincheck.cli.fetch.showing import Display

TRIES = 5  # in a row that bring nothing
_BREAKS = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)


class Broken(Exception):
    """The body is not all there, and the rest can't be had."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What is kept beside a file that is not complete, to go on later.

    Attributes:
        token: Of the operation, or of its response.
        etag: Of the response whose start is in the file; None: nothing is in it.
    """

    token: str
    etag: str | None = None


class Part:
    """A file that is being written, under another name until it is complete.

    The token lets one in where the URL does: nobody else may read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path = path.resolve()  # what a link leads to is written, and the link stays
        self._part = path.with_name(f"{path.name}.part")
        self._state = path.with_name(f"{path.name}.raincheck")

    def saved(self) -> Saved | None:
        """Return what an earlier run has left; None: nothing."""
        try:
            return Saved(**json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def save(self, saved: Saved) -> None:
        """Leave a note for a later run."""
        descriptor = os.open(self._state, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as file:
            json.dump(asdict(saved), file)

    def open(self, *, at_end: bool) -> BinaryIO:
        """Open what is there, or begin anew."""
        return self._part.open("ab" if at_end else "wb")

    def complete(self) -> None:
        """Give the file its name."""
        self._part.replace(self.path)
        self._state.unlink(missing_ok=True)

    def forget(self) -> None:
        """Leave nothing."""
        self._part.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)


@dataclass(slots=True)
class Download:
    """One body, from where it is to where it goes.

    Attributes:
        again: Asks for the response once more, with these header fields; None: it can't be had.
        etag: A strong validator of the response (RFC 9110 §8.8.1); None: it has none.
        done: Bytes that are there already.
    """

    file: BinaryIO
    shown: Display
    again: Callable[[dict[str, str]], httpx.Response] | None
    etag: str | None
    done: int = 0

    def run(self, response: httpx.Response | None = None) -> None:
        """Write all of it.

        Args:
            response: Whose body is to come; default: the rest of one of which a part is there.

        Raises:
            Broken: It is not all there, and the rest can't be had.
        """
        tries = 0
        while True:
            before = self.done
            try:
                response = response or self._rest()
                if response is not None:
                    self._write(response)
                self.file.flush()
                return
            except _BREAKS as error:
                tries = 1 if self.done > before else tries + 1
                if self.again is None or self.etag is None or tries >= TRIES:
                    how = type(error).__name__
                    raise Broken(
                        f"the download broke off after {self.done} bytes: {how}"
                    ) from error
            response = None
            time.sleep(min(0.5 * 2 ** (tries - 1), 5.0))

    def _rest(self) -> httpx.Response | None:
        """Ask for what is missing; None: nothing is."""
        if self.again is None or self.etag is None:
            raise Broken("the rest of the response can't be asked for")
        response = self.again({"Range": f"bytes={self.done}-", "If-Range": self.etag})
        if response.status_code == 206 and _start(response) == self.done:
            return response
        response.close()
        if response.status_code == 416 and _start(response) is None and self._is_all(response):
            return None
        raise Broken(f"the rest of the response can't be had: {response.status_code}")

    def _is_all(self, response: httpx.Response) -> bool:
        return bool(response.headers.get("content-range") == f"bytes */{self.done}")

    def _write(self, response: httpx.Response) -> None:
        total = response.headers.get("content-length", "")
        whole = self.done + int(total) if total.isdecimal() else None
        with closing(response):
            for chunk in response.iter_raw():
                self.file.write(chunk)
                self.done += len(chunk)
                self.shown.received(self.done, whole)


def _start(response: httpx.Response) -> int | None:
    unit, _, rest = response.headers.get("content-range", "").partition(" ")
    first = rest.partition("-")[0]
    return int(first) if unit == "bytes" and first.isdecimal() else None


def strong_etag(response: httpx.Response) -> str | None:
    """Return a validator that says of two bodies that they are the same to the byte."""
    etag = response.headers.get("etag")
    return etag if etag and etag.startswith('"') else None


def standard_output() -> BinaryIO:
    """Return where the body goes without a file."""
    return sys.stdout.buffer
