"""`raincheck fetch` itself: a request, its end, and the status that the process ends with."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx

from raincheck.cli.fetch.download import (
    Broken,
    Download,
    size_of,
    standard_output,
    strong_etag,
)
from raincheck.cli.fetch.part import Part, Replaced, Saved
from raincheck.cli.fetch.showing import Display, display
from raincheck.cli.plain import plain
from raincheck.cli.progress import NoBar
from raincheck.client import DeadlineExceeded, FollowError, InvalidToken, Options, Transport, resume
from raincheck.client.errors import shown
from raincheck.client.fields import origin, resolve
from raincheck.client.httpx_messages import TOKEN
from raincheck.client.tokens import Place, to_place

OK, FAILED, UNUSABLE, LATE, CLIENT_ERROR, SERVER_ERROR, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
TERMINATED = 143
_TIMEOUT = 30.0  # seconds without a byte
_FORM = "application/x-www-form-urlencoded"
_ERROR_LIMIT = 65_536  # bytes of an error's body that are shown


def run(arguments: argparse.Namespace) -> int:
    """Do what the arguments say, and return the exit status."""
    url = resolve(arguments.url, arguments.url)
    if url is None:
        return _complain("URL is to be one of http or https", UNUSABLE)
    if str(arguments.output) == "-":
        arguments.output = None
    if arguments.resume and arguments.output is None:
        return _complain("--resume needs the --output of the run before", UNUSABLE)
    if arguments.output is not None and not _is_file(arguments.output):
        return _complain(f"{arguments.output} is no file: use the shell's redirection", UNUSABLE)
    with _terminable():
        try:
            return _Fetch(arguments, url).run()
        except KeyboardInterrupt:
            return _complain(f"interrupted{_hint(arguments)}", INTERRUPTED)
        except _Terminated:
            return _complain(f"terminated{_hint(arguments)}", TERMINATED)


def _hint(arguments: argparse.Namespace) -> str:
    """Say that another run may go on: where a part is there, or the operation was let be."""
    saved = Part(arguments.output).saved() if arguments.output is not None else None
    goes_on = saved is not None and (arguments.no_cancel or saved.etag is not None)
    return "; --resume goes on" if goes_on else ""


def _is_file(path: Path) -> bool:
    """Tell whether a path may be replaced by a file: a device must not be."""
    return path.is_file() or not path.exists()


class _Terminated(BaseException):
    pass


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end what is under way in an orderly manner: the operation is cancelled."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread: whoever calls has a way of their own
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _SameOrigin(httpx.BaseTransport):
    """Keep the header fields that a user has given from every other origin; use proxies."""

    def __init__(self, url: str, names: set[str]) -> None:
        self._origin, self._names = origin(url), names | {"authorization", "cookie"}
        self._proxies = getproxies()
        self._transports: dict[str | None, httpx.HTTPTransport] = {}
        self._last: tuple[str, httpx.URL, int] | None = None  # and how it was answered

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if origin(str(request.url)) != self._origin:
            for name in self._names & set(request.headers):
                del request.headers[name]
        proxy = self._proxy(request.url)
        if proxy not in self._transports:
            self._transports[proxy] = httpx.HTTPTransport(proxy=proxy)
        self._last = None
        response = self._transports[proxy].handle_request(request)
        self._last = request.method, request.url, response.status_code
        return response

    def has_cancelled(self, place: Place) -> bool:
        """Tell whether the last request has cancelled an operation."""
        if self._last is None or place.cancel is None:
            return False
        method, url, status = self._last
        is_it = method in ("DELETE", "POST") and url == httpx.URL(place.cancel)
        return is_it and (status < 400 or status == 410)

    def close(self) -> None:
        for transport in self._transports.values():
            transport.close()

    def _proxy(self, url: httpx.URL) -> str | None:
        if not self._proxies or proxy_bypass(url.host):
            return None
        return self._proxies.get(url.scheme, self._proxies.get("all"))


@dataclass(slots=True)
class _Fetch:
    arguments: argparse.Namespace
    url: str

    def run(self) -> int:
        try:
            with (
                display(wanted=not self.arguments.no_progress) as show,
                self._client(show) as client,
            ):
                return self._fetch(client, show)
        except DeadlineExceeded as error:
            return _complain(str(error), LATE)
        except (FollowError, Broken, Replaced) as error:
            return _complain(str(error), FAILED)
        except BrokenPipeError:  # nobody reads on: the interpreter is not to try again at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        except OSError as error:
            return _complain(f"{self.arguments.output or 'output'}: {error.strerror}", FAILED)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return _complain(f"{shown(self.url)}: {_why(error)}", FAILED)

    @contextmanager
    def _client(self, show: Display) -> Iterator[httpx.Client]:
        names = {name.lower() for name, _ in self._headers()}
        base = _SameOrigin(self.url, names)
        transport = Transport(base, self._options(show))
        with httpx.Client(
            transport=transport, timeout=_TIMEOUT, follow_redirects=self.arguments.location
        ) as client:
            try:
                yield client
            except (DeadlineExceeded, KeyboardInterrupt, _Terminated):
                self._forget_cancelled(base)
                raise

    def _forget_cancelled(self, base: _SameOrigin) -> None:
        part = Part(self.arguments.output) if self.arguments.output is not None else None
        saved = part.saved() if part is not None else None
        if part is not None and saved is not None and base.has_cancelled(to_place(saved.token)):
            part.forget()

    def _options(self, show: Display) -> Options:
        chosen: dict[str, Any] = {}
        if self.arguments.deadline is not None:
            chosen["deadline"] = self.arguments.deadline
        if self.arguments.prefer_wait is not None:
            chosen["wait"] = self.arguments.prefer_wait
        return Options(
            **chosen,
            place=self.arguments.place,
            cancel=not self.arguments.no_cancel,
            idempotency_key=self.arguments.idempotency_key,
            on_progress=show.operation if show.is_seen else None,
            on_token=self._remember,
        )

    def _headers(self) -> list[tuple[str, str]]:
        return [field for fields in self.arguments.header for field in fields]

    def _remember(self, token: str) -> None:
        if self.arguments.output is not None:
            Part(self.arguments.output).save(Saved(token))

    # --- the request -------------------------------------------------------------------------

    def _fetch(self, client: httpx.Client, show: Display) -> int:
        client.headers = httpx.Headers(self._sent_headers())
        if not self.arguments.resume:
            return self._received(client, client.send(self._request(client), stream=True), show)
        part = Part(self.arguments.output)
        saved = part.saved()
        if saved is None:
            return _complain(f"nothing to resume: {part.path} has no .raincheck file", UNUSABLE)
        place = to_place(saved.token)
        if origin(place.asked) != origin(self.url):
            raise InvalidToken(f"{part.path}.raincheck is of another origin than {shown(self.url)}")
        if saved.etag is None:
            return self._received(client, resume(saved.token, client, stream=True), show)
        with part.go_on() as file:
            again = _Again(client, place.url)
            Download(file, show, again, saved.etag, file.tell(), saved.size).run()
            part.complete(file)
        return OK

    def _sent_headers(self) -> list[tuple[str, str]]:
        """Return what is sent: bytes are wanted as they are kept, so that a part has a meaning."""
        from importlib.metadata import version

        own = [("Accept", "*/*"), ("Accept-Encoding", "identity")]
        own.append(("User-Agent", f"raincheck/{version('raincheck')}"))
        if self.arguments.data is not None:
            own.append(("Content-Type", _FORM))
        if self.arguments.prefer_wait is not None:
            own.append(("Prefer", f"wait={self.arguments.prefer_wait:.0f}"))
        given = self._headers()
        names = {name.lower() for name, _ in given}
        return [field for field in own if field[0].lower() not in names] + given

    def _request(self, client: httpx.Client) -> httpx.Request:
        data = self.arguments.data
        method = self.arguments.request or ("GET" if data is None else "POST")
        return client.build_request(method, self.arguments.url, content=data)

    # --- the response ------------------------------------------------------------------------

    def _received(self, client: httpx.Client, response: httpx.Response, show: Display) -> int:
        with closing(response):
            if response.status_code >= 400 and self.arguments.output is not None:
                if TOKEN in response.extensions and _is_end(response):
                    Part(self.arguments.output).forget()
                _show_error(response)
            elif self.arguments.output is None:
                show.end()
                self._download(client, response, Display(NoBar()), standard_output())
            else:
                self._to_file(client, response, show, Part(self.arguments.output))
        status = response.status_code
        if status < 400:
            return OK
        kept = TOKEN in response.extensions and not _is_end(response)
        more = "; --resume asks again" if kept and self.arguments.output is not None else ""
        return _complain(
            f"{shown(self.url)} answers {status}{more}",
            CLIENT_ERROR if status < 500 else SERVER_ERROR,
        )

    def _to_file(
        self, client: httpx.Client, response: httpx.Response, show: Display, part: Part
    ) -> None:
        token = response.extensions.get(TOKEN)
        saved = Saved(token, _validator(response), size_of(response)) if token is not None else None
        with part.begin(saved) as file:
            self._download(client, response, show, file)
            part.complete(file)

    def _download(
        self, client: httpx.Client, response: httpx.Response, show: Display, file: Any
    ) -> None:
        token, request = response.extensions.get(TOKEN), response.request
        place = to_place(token).url if token is not None else None
        if place is None and request.method == "GET" and response.status_code == 200:
            place = str(request.url)
        again = _Again(client, place) if place is not None else None
        Download(file, show, again, _validator(response)).run(response)


@dataclass(frozen=True, slots=True)
class _Again:
    """Asks for a response once more, where it is by now."""

    client: httpx.Client
    url: str

    def __call__(self, headers: dict[str, str]) -> httpx.Response:
        request = self.client.build_request("GET", self.url, headers=headers)
        return self.client.send(request, stream=True)


def _is_end(response: httpx.Response) -> bool:
    """Tell whether an error is the operation's: a missing credential may have the same status."""
    return response.status_code == 410 or "operation-status" in response.headers


def _validator(response: httpx.Response) -> str | None:
    """Return what the rest can be asked for with: the range of a range is another one."""
    return strong_etag(response) if response.status_code == 200 else None


def _show_error(response: httpx.Response) -> None:
    """Show an error's body to a person: it is not what the file was to have."""
    body = b""
    with suppress(httpx.HTTPError):
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > _ERROR_LIMIT:
                break
    text = body[:_ERROR_LIMIT].decode(errors="replace")
    for line in text.splitlines():
        print(plain(line, 1000), file=sys.stderr)


def _why(error: Exception) -> str:
    """Say what an error is, without what it may quote: a header field, a URL."""
    if isinstance(error, (httpx.NetworkError, httpx.TimeoutException)):
        return plain(str(error), 200) or type(error).__name__
    return type(error).__name__


def _complain(sentence: str, status: int) -> int:
    print(f"raincheck fetch: {plain(sentence, 500)}", file=sys.stderr)
    return status
