"""How operations and requests are written down: JSON with a version, never pickle. Pure.

Two versions of raincheck may share a store while a deploy is under way. So a newer one reads what
an older one wrote: a new field has a default. And an older one does no harm to what a newer one
wrote: fields and reasons that it does not know survive its changes, and an operation in a state
that it does not know is left alone, as no rule allows anything. Therefore a state of a new name is
also how to keep older versions away from a record that they would misread. `v` is the version that
wrote the record last.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

from raincheck.errors import NewerRecord, StoreError, abbreviate
from raincheck.http.messages import Headers, Request
from raincheck.operations.operation import Operation, Progress, Reason, Result, State

RECORD_VERSION = 1

_KNOWN = tuple(f.name for f in fields(Operation) if f.name != "unknown")
_known_of = attrgetter(*_KNOWN)
# What records leave out: other versions would read another default as another record.
_DEFAULTS = tuple(f.default for f in fields(Operation) if f.name != "unknown")
_NOT_UNKNOWN = frozenset((*_KNOWN, "v"))
_REQUEST_MEMBERS = frozenset((*(f.name for f in fields(Request)), "v"))
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)  # what reading a wrong shape raises
_NUMBER, _TEXT = (int, float), (str, type(None))
# What a member may be: a wrong one must not be met later, where it would stop more than itself.
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("id", "state", "method", "route"), str),
    **dict.fromkeys(("created", "updated", "retention", "completed"), _NUMBER),
    **dict.fromkeys(
        ("lease", "expires", "polled", "total", "not_before", "started"), (*_NUMBER, type(None))
    ),
    **dict.fromkeys(
        ("version", "fence", "unbegun", "deliveries", "status", "length", "chunk_size"), int
    ),
    **dict.fromkeys(("owner", "queue", "worker", "reason", "fingerprint", "application"), _TEXT),
    **dict.fromkeys(("code", "webhook", "form_token"), _TEXT),
    **dict.fromkeys(("message", "error_code", "error_message"), _TEXT),
    **dict.fromkeys(("path", "scheme", "http_version", "root_path"), str),
}


def encode(operation: Operation) -> str:
    """Write a record as JSON; what a newer raincheck put into it is kept.

    What has its default is left out: that is two thirds, and costs every reader.
    """
    document: dict[str, Any] = {"v": RECORD_VERSION, **operation.unknown}
    for name, value, default in zip(_KNOWN, _known_of(operation), _DEFAULTS, strict=True):
        if value != default or name in document:
            document[name] = value
    for name, read in _READERS.items():
        original = operation.unknown.get(name)
        if original is not None and read(original) == document[name]:
            document[name] = original
    return json.dumps(document, default=_to_json, separators=(",", ":"))


def decode(text: str | bytes) -> Operation:
    """Read a record that this or another version of raincheck wrote.

    A reason that is not known reads as `exception`, the most general one. A member that is not
    wholly known is kept in `unknown` as it was, and written again unless its value has changed.

    Raises:
        StoreError: It is no record, or one of a version that this one can't read.
    """
    document = _parse(text)
    try:
        return _read_operation(document)
    except _UNREADABLE as error:
        raise _unreadable(document) from error


def _read_operation(document: Mapping[str, Any]) -> Operation:
    known = {name: document[name] for name in _KNOWN if name in document}
    _check(known)
    unknown = {name: value for name, value in document.items() if name not in _NOT_UNKNOWN}
    known["state"] = _read_state(known["state"])
    for name, read in _READERS.items():
        if (original := known.get(name)) is not None:
            known[name] = read(original)
            if not _says_all(known[name], original):
                unknown[name] = original
    return Operation(**known, unknown=unknown)


def _read_state(name: str) -> State:
    """Return the state, even of a name that no rule knows: then nothing can happen to it."""
    try:
        return State(name)
    except ValueError:
        stranger = str.__new__(State, name)
        stranger._name_ = stranger._value_ = name
        return stranger


def _read_reason(name: str) -> Reason:
    try:
        return Reason(name)
    except ValueError:
        return Reason.EXCEPTION


def _read_progress(document: Mapping[str, Any]) -> Progress:
    return Progress(**_only(Progress, document))


def _read_result(document: Mapping[str, Any]) -> Result:
    values = _only(Result, document)
    if values["length"] and values["chunk_size"] <= 0:
        raise ValueError("a body without chunks")
    values["headers"] = decode_headers(values["headers"])
    values["trailers"] = decode_headers(values.get("trailers", ()))
    return Result(**values)


_READERS: Mapping[str, Callable[[Any], Reason | Progress | Result]] = {
    "progress": _read_progress,
    "reason": _read_reason,
    "result": _read_result,
}


def _only(record: type[Progress | Result | Request], document: Mapping[str, Any]) -> dict[str, Any]:
    found = {f.name: document[f.name] for f in fields(record) if f.name in document}
    _check(found)
    return found


def _check(members: Mapping[str, Any]) -> None:
    """Raise a TypeError if one is not what it should be."""
    for name, value in members.items():
        if (kind := _KINDS.get(name)) is not None and not isinstance(value, kind):
            raise TypeError(name)


def _says_all(value: Reason | Progress | Result, original: Any) -> bool:
    """Tell whether nothing of the original is lost where only the value is written again."""
    if isinstance(value, Reason):
        return bool(value == original)
    return set(original) <= {f.name for f in fields(value)}


def _to_json(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, Progress):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Result):
        members = ((f.name, getattr(value, f.name)) for f in fields(value))
        return {name: member for name, member in members if member is not None}
    raise TypeError(f"a record can't hold {value!r}")


def decode_headers(pairs: Any) -> Headers:
    """Turn JSON's pairs of latin-1 strings back into pairs of bytes."""
    return tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs)


def encode_request(request: Request) -> str:
    """Write a request, without its body, as JSON."""
    document = {f.name: getattr(request, f.name) for f in fields(Request)}
    return json.dumps({"v": RECORD_VERSION} | document, default=_to_json, separators=(",", ":"))


def decode_request(text: str | bytes) -> Request:
    """Read a request that this or another version of raincheck wrote.

    Raises:
        NewerRecord: It has members that this version does not know. To run it without them could
            be to run another request.
        StoreError: It is no request.
    """
    document = _parse(text)
    if not _REQUEST_MEMBERS.issuperset(document):
        raise _unreadable(document, NewerRecord)
    try:
        values = _only(Request, document)
        for name in ("raw_path", "query"):
            values[name] = values[name].encode("latin-1")
        for name in ("client", "server"):
            values[name] = tuple(values[name]) if values[name] else None
        values["headers"] = decode_headers(values["headers"])
        return Request(**values)
    except _UNREADABLE as error:
        raise _unreadable(document) from error


def _parse(text: str | bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError("the store holds something that is not a record of raincheck") from error
    if not isinstance(document, dict):
        raise StoreError("the store holds something that is not a record of raincheck")
    return document


def _unreadable(document: Mapping[str, Any], kind: type[StoreError] | None = None) -> StoreError:
    which = f" of operation {abbreviate(str(document['id']))}" if "id" in document else ""
    version = document.get("v", "unknown")
    is_newer = isinstance(version, int) and version > RECORD_VERSION
    kind = kind or (NewerRecord if is_newer else StoreError)
    return kind(
        f"this raincheck, which knows version {RECORD_VERSION}, can't read the record{which} "
        f"of version {version}: upgrade it"
    )
