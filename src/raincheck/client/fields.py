"""Header fields as a client reads them, and those that its polls carry. Pure."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from urllib.parse import urljoin, urlsplit

from raincheck.http.dates import http_date

Fields = tuple[tuple[str, str], ...]
BODY_LIMIT = 2**20  # bytes of a status document, packed or not
URL_LIMIT = 8_192  # characters
LINKS_LIMIT = 64  # of one field
COOKIES_LIMIT, COOKIE_LIMIT = 64, 4_096  # set by polls; characters of one

SETS_COOKIES = frozenset({"set-cookie", "set-cookie2"})

_ANYWHERE = frozenset({"accept", "accept-encoding", "accept-language", "user-agent"})
_OF_THE_REQUEST = frozenset(
    {
        *("connection", "content-encoding", "content-language", "content-length"),
        *("content-location", "content-md5", "content-digest", "content-type", "digest", "expect"),
        *("host", "idempotency-key", "if-match", "if-modified-since", "if-none-match", "if-range"),
        *("if-unmodified-since", "keep-alive", "prefer", "proxy-connection", "range", "te"),
        *("repr-digest", "trailer", "transfer-encoding", "upgrade", "want-digest"),
        *("x-http-method", "x-http-method-override", "x-method-override"),
    }
)
_HOST = re.compile(rb"[A-Za-z0-9_][A-Za-z0-9._-]{0,253}")
_PORTS = {"http": 80, "https": 443}


def value_of(fields: Fields, name: str) -> str | None:
    """Return a field's value, the first where there are several; names are in lower case."""
    return next((value for key, value in fields if key == name), None)


def lowered(fields: Iterable[tuple[str, str]]) -> Fields:
    """Return fields with their names in lower case."""
    return tuple((name.lower(), value) for name, value in fields)


def origin(url: str) -> tuple[str, str, int | None]:
    """Return who answers at a URL: scheme, host and port."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    return scheme, (parts.hostname or "").lower(), parts.port or _PORTS.get(scheme)


def resolve(base: str, reference: str | None) -> str | None:
    """Return the absolute http or https URL that is meant, without user; None: there is none."""
    if not reference or len(reference) > URL_LIMIT or not reference.strip().isprintable():
        return None
    try:
        parts = urlsplit(urljoin(base, reference.strip().replace(" ", "%20")))
        scheme, host, _port = origin(parts.geturl())
    except ValueError:
        return None
    if scheme not in _PORTS or not _can_be_asked(host):
        return None
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def _can_be_asked(host: str) -> bool:
    """Tell whether a request can be sent there: libraries fail in many ways where it can't."""
    if ":" in host:
        return True
    try:
        name = host.encode("idna")
    except UnicodeError:
        return False
    return _HOST.fullmatch(name) is not None


def carried(fields: Fields, *, abroad: bool) -> Fields:
    """Return what a poll repeats of the request's fields; to another origin no credential goes."""
    if abroad:
        return tuple(field for field in fields if field[0] in _ANYWHERE)
    return tuple(field for field in fields if field[0] not in _OF_THE_REQUEST)


def retry_after(fields: Fields, wall: float) -> float | None:
    """Return the seconds to wait; None: nothing usable is said.

    Args:
        wall: Seconds since the epoch, for a date where the answer has none of its own.
    """
    value = (value_of(fields, "retry-after") or "").strip()
    moment = http_date(value.encode("latin-1", "replace"))
    if moment is not None:
        sent = http_date((value_of(fields, "date") or "").encode("latin-1", "replace"))
        return max(0.0, moment.timestamp() - (sent.timestamp() if sent else wall))
    if not value or len(value) > 30 or not value.isascii():
        return None
    try:
        seconds = float(value)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def preference_applied(fields: Fields, name: str) -> bool:
    """Tell whether a preference was applied (RFC 7240 §3)."""
    values = (value for key, value in fields if key == "preference-applied")
    tokens = (token for value in values for token in value.split(","))
    return any(token.split("=")[0].split(";")[0].strip().lower() == name for token in tokens)


def linked(fields: Fields, wanted: Iterable[str]) -> str | None:
    """Return the target of the first link with one of these relations (RFC 8288)."""
    for key, value in fields:
        if key != "link":
            continue
        for part in value.split("<")[1 : LINKS_LIMIT + 1]:
            target, _, parameters = part.partition(">")
            if set(_relations(parameters)) & set(wanted):
                return target
    return None


def _relations(parameters: str) -> list[str]:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "rel":
            return value.strip().rstrip(",").strip().strip('"').lower().split()
    return []


def decoded(body: bytes, fields: Fields) -> bytes | None:
    """Undo a content coding, as far as it stays small; None: it can't be read."""
    coding = (value_of(fields, "content-encoding") or "identity").strip().lower()
    if coding == "identity":
        return body
    if coding not in ("gzip", "x-gzip", "deflate"):
        return None
    unpacking = zlib.decompressobj(47 if coding != "deflate" else 15)
    try:
        data = unpacking.decompress(body, BODY_LIMIT)
    except zlib.error:
        return None
    return data if unpacking.eof else None


def is_json(fields: Fields) -> bool:
    """Tell whether the body is said to be JSON."""
    kind = (value_of(fields, "content-type") or "").partition(";")[0].strip().lower()
    return kind == "application/json" or (kind.startswith("application/") and kind[-5:] == "+json")


@dataclass(frozen=True, slots=True)
class _Cookie:
    value: str | None  # None: it was taken back
    path: str
    is_secure: bool

    def is_for(self, url: str) -> bool:
        """Tell whether it is sent to a URL of its origin (RFC 6265 §5.4)."""
        parts = urlsplit(url)
        if self.is_secure and parts.scheme != "https":
            return False
        path, below = parts.path or "/", self.path
        return path == below or path.startswith(below if below.endswith("/") else f"{below}/")


class Cookies:
    """Those that answers to polls have set, for the next ones of the same origin."""

    def __init__(self) -> None:
        self._values: dict[str, _Cookie] = {}
        self.set: list[str] = []  # the fields, for whoever gets the final response

    def learn(self, fields: Fields, wall: float) -> None:
        """Take in what an answer of the same origin has set."""
        for value in (value for key, value in fields if key == "set-cookie"):
            if len(self.set) >= COOKIES_LIMIT or len(value) > COOKIE_LIMIT or not _is_sound(value):
                continue
            self.set.append(value)
            name, cookie = _parsed(value, wall)
            self._values[name] = cookie

    def added_to(self, fields: Fields, url: str) -> Fields:
        """Return a poll's fields with these cookies in place of those of the same names."""
        new = {name: c.value for name, c in self._values.items() if c.is_for(url)}
        if not new:
            return fields
        sent = (value_of(fields, "cookie") or "").split(";")
        old = {n.strip(): v for n, _, v in (pair.partition("=") for pair in sent) if n.strip()}
        left = {name: value for name, value in (old | new).items() if value is not None}
        line = "; ".join(f"{name}={value}" for name, value in left.items())
        others = tuple(field for field in fields if field[0] != "cookie")
        return (*others, ("cookie", line)) if line else others


def _is_sound(cookie: str) -> bool:
    return cookie.isprintable() and cookie.isascii()


def _parsed(cookie: str, wall: float) -> tuple[str, _Cookie]:
    pair, *attributes = cookie.split(";")
    name, _, content = pair.partition("=")
    parted = (attribute.partition("=") for attribute in attributes)
    named = {key.strip().lower(): text.strip() for key, _, text in parted}
    path = named.get("path", "")
    value = None if _is_over(named, wall) else content.strip()
    return name.strip(), _Cookie(value, path if path.startswith("/") else "/", "secure" in named)


def _is_over(attributes: Mapping[str, str], wall: float) -> bool:
    age = attributes.get("max-age")
    if age:
        return age == "0" or age.startswith("-")
    try:
        end = parsedate_tz(attributes.get("expires", ""))
        return end is not None and mktime_tz(end) <= wall
    except (ValueError, OverflowError, IndexError, TypeError):
        return False
