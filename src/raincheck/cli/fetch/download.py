"""The response's body on its way to a file: also in parts, after a connection was lost."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

import httpx

from raincheck.cli.fetch.showing import Display

TRIES = 5  # in a row that bring nothing
_BREAKS = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)
_SPAN = re.compile(r"bytes +([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE)


class Broken(Exception):
    """The body is not all there, and the rest can't be had."""


@dataclass(slots=True)
class Download:
    """One body, from where it is to where it goes.

    Attributes:
        again: Asks for the response once more, with these header fields; None: it can't be had.
        etag: A strong validator of the response (RFC 9110 §8.8.1); None: it has none.
        done: Bytes that are there already.
        size: Bytes of the whole; None: that is not known.
    """

    file: BinaryIO
    shown: Display
    again: Callable[[dict[str, str]], httpx.Response] | None
    etag: str | None
    done: int = 0
    size: int | None = None

    def run(self, response: httpx.Response | None = None) -> None:
        """Write all of it.

        Args:
            response: Whose body is to come; default: the rest of one of which a part is there.

        Raises:
            Broken: It is not all there, and the rest can't be had.
        """
        tries, is_whole = 0, False
        while not is_whole:
            before = self.done
            try:
                is_whole = self._whole(response) if response is not None else self._rest()
                self.file.flush()
            except _BREAKS as error:
                tries = 1 if self.done > before else tries + 1
                if self.again is None or self.etag is None or tries >= TRIES:
                    how = type(error).__name__
                    raise Broken(
                        f"the download broke off after {self.done} bytes: {how}"
                    ) from error
                time.sleep(min(0.5 * 2 ** (tries - 1), 5.0))
            response = None

    def _whole(self, response: httpx.Response) -> bool:
        self.size = size_of(response)
        with closing(response):
            self._write(response)
        return True

    def _rest(self) -> bool:
        """Write what is missing, or as much as the server gives at once; tell whether it is all."""
        if self.again is None or self.etag is None:
            raise Broken("the rest of the response can't be asked for")
        with closing(
            self.again({"Range": f"bytes={self.done}-", "If-Range": self.etag})
        ) as response:
            if response.status_code == 416 and self._is_all(response):
                return True
            span = _span(response)
            if response.status_code != 206 or span is None or not self._fits(span, response):
                raise Broken(f"the rest of the response can't be had: {response.status_code}")
            self.size = self.size if span.size is None else span.size
            self._write(response, span.last + 1)
        return self.done == self.size

    def _is_all(self, response: httpx.Response) -> bool:
        is_end = self.size is None or self.size == self.done
        return is_end and response.headers.get("content-range") == f"bytes */{self.done}"

    def _fits(self, span: _Span, response: httpx.Response) -> bool:
        """Tell whether a part is the next one of the same response (RFC 9110 §15.3.7.3)."""
        is_same = self.size is None or span.size is None or self.size == span.size
        return is_same and span.first == self.done and strong_etag(response) == self.etag

    def _write(self, response: httpx.Response, end: int | None = None) -> None:
        for chunk in response.iter_raw():
            if end is not None and self.done + len(chunk) > end:
                raise Broken("the server gives more bytes than it says")
            self.file.write(chunk)
            self.done += len(chunk)
            self.shown.received(self.done, self.size)
        if end is not None and self.done < end:
            raise httpx.RemoteProtocolError("the server gives fewer bytes than it says")


@dataclass(frozen=True, slots=True)
class _Span:
    first: int
    last: int
    size: int | None


def _span(response: httpx.Response) -> _Span | None:
    """Read which bytes are there, of how many; None: this can't be."""
    found = _SPAN.fullmatch(response.headers.get("content-range", ""))
    if found is None:
        return None
    first, last = int(found[1]), int(found[2])
    size = None if found[3] == "*" else int(found[3])
    return _Span(first, last, size) if first <= last and (size is None or last < size) else None


def size_of(response: httpx.Response) -> int | None:
    """Return how many bytes a response has; None: it does not say."""
    size = response.headers.get("content-length", "")
    return int(size) if size.isascii() and size.isdecimal() else None


def strong_etag(response: httpx.Response) -> str | None:
    """Return a validator that says of two bodies that they are the same to the byte."""
    etag = response.headers.get("etag")
    return etag if etag and etag.startswith('"') else None


def standard_output() -> BinaryIO:
    """Return where the body goes without a file."""
    return sys.stdout.buffer
