"""What a gateway said, without what differs between any two requests: ids, times, hosts."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

import httpx

# Raincheck's own fields. `Location`, `Vary` and `Allow` are its own only in its own responses.
OWN = (
    *("content-location", "operation-location", "link", "retry-after", "cache-control"),
    *("operation-status", "operation-result-status", "preference-applied"),
    *("etag", "accept-ranges", "content-range"),
)
OWN_IF_DOCUMENT = ("content-type", "location", "vary", "allow")
OF_HANDLERS = ("content-type", "x-handler", "x-seen", "location", "set-cookie", "content-length")
OF_FRAMEWORKS = (404, 405)  # the raw applications have to do what frameworks do elsewhere
VARIABLE = [
    (re.compile(r"http://127\.0\.0\.1:\d+"), "http://host"),
    (re.compile(r"\"[0-9a-f]{32}\"(?!,\"status)"), '"tag"'),
    (re.compile(r"\b[0-9a-f]{32}\b"), "{id}"),
    (re.compile(r"cancel=[\w-]{22}"), "cancel={token}"),
    (re.compile(r"signature=\d+\.[\w-]{43}"), "signature={signature}"),
    # Frameworks make a response of what `raise_if_cancelled` raises.
    (re.compile(r'"error":\{"code":"response_discarded"[^}]*\},'), ""),
    (re.compile(r" The handler answered all the same; its response was discarded\."), ""),
    (re.compile(r'"progress":\{[^}]*\},'), ""),  # a handler may be faster than its 202
    (re.compile(r'"estimate":"[^"]*",'), ""),  # by what has ended before, and how fast
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"), "{time}"),
]


def is_document(response: httpx.Response) -> bool:
    """Tell whether raincheck has written the body itself."""
    kind = response.headers.get("content-type")
    is_status = kind == "application/json" and '"links":' in response.text
    return is_status or kind == "application/problem+json"


def normalised(text: str) -> str:
    """Replace what differs between any two requests."""
    for pattern, name in VARIABLE:
        text = pattern.sub(name, text)
    return text


def _fields(response: httpx.Response, names: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = [(n.lower().decode(), v.decode("latin-1")) for n, v in response.headers.raw]
    if response.status_code < 500:  # then it is learned, as the estimate is
        pairs = [(name, "{seconds}" if name == "retry-after" else value) for name, value in pairs]
    return sorted((name, normalised(value)) for name, value in pairs if name in names)


def _said(response: httpx.Response) -> object:
    """Return what is to be the same for all gateways."""
    own = _fields(response, OWN)
    if is_document(response):
        return own, _fields(response, OWN_IF_DOCUMENT), normalised(response.text)
    if "x-handler" in response.headers and response.status_code not in OF_FRAMEWORKS:
        body = hashlib.sha256(response.content).hexdigest()
        return own, _fields(response, OF_HANDLERS), body
    return own  # the rest is the framework's


@dataclass
class Transcript:
    """What one gateway said in each check."""

    checks: dict[str, list[object]] = field(default_factory=dict)
    check: str = ""

    def note(self, response: httpx.Response) -> None:
        """Write down a response and what it answers."""
        response.read()
        request = response.request
        line = (
            f"{request.method} {normalised(request.url.raw_path.decode())}",
            response.status_code,
            _said(response),
        )
        self.checks.setdefault(self.check, []).append(line)
