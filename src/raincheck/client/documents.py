"""What a JSON body tells of an operation, in the words of several conventions. Pure.

raincheck, Azure and Microsoft Graph, AIP-151, OGC API Processes, Redfish, and what looks like them.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from raincheck.client.fields import Fields, decoded, is_json, value_of
from raincheck.client.options import Progress

Document = Mapping[str, Any]


class Told(Enum):
    """What a document says of its operation."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # in words that nobody knows
    NOTHING = "nothing"


_WORDS = {
    Told.RUNNING: "accepted running notstarted inprogress pending queued processing started "
    "starting new waiting cancelling canceling stopping created executing",
    Told.SUCCEEDED: "succeeded success successful completed complete done finished",
    Told.FAILED: "failed failure error errored rejected exception killed",
    Told.CANCELLED: "canceled cancelled dismissed aborted",
}
_STATES = {word: told for told, words in _WORDS.items() for word in words.split()}
_OGC = {"accepted", "running", "successful", "failed", "dismissed"}
_RESULTS = ("http://www.opengis.net/def/rel/ogc/1.0/results", "results", "result")
_MONITORS = ("monitor", "status")
_IDS = (
    *("id", "jobID", "jobId", "job_id", "taskId", "task_id", "operationId", "operation_id"),
    *("statusId", "Id", "name"),
)
_SURELY_RUNNING = {"notstarted", "inprogress", "pending", "queued", "processing"}


def read(body: bytes | None, fields: Fields) -> Document | None:
    """Return the JSON object in a body; None: it is something else."""
    plain = decoded(body, fields) if body and is_json(fields) else None
    if not plain:
        return None
    try:
        document = json.loads(plain)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


@dataclass(frozen=True, slots=True)
class StatusDocument:
    """A JSON object that may tell the state of an operation."""

    members: Document

    @property
    def id(self) -> str | None:
        """What it calls the operation."""
        found = (self.members.get(name) for name in _IDS)
        return next((str(value) for value in found if isinstance(value, (str, int))), None)

    @property
    def is_ogc(self) -> bool:
        """Whether it is a statusInfo of OGC API Processes."""
        named = "jobID" in self.members or self.members.get("type") == "process"
        return named and self.members.get("status") in _OGC

    @property
    def is_aip(self) -> bool:
        """Whether it is an Operation of AIP-151."""
        done, name = self.members.get("done"), self.members.get("name")
        return isinstance(done, bool) and isinstance(name, str)

    @property
    def is_named_as_aip(self) -> bool:
        """Whether nothing else would be named so: a thing to do is `done` and has a name, too."""
        return self.is_aip and "operations/" in self.members["name"]

    @property
    def is_raincheck(self) -> bool:
        """Whether it is of this very package."""
        links = self.members.get("links")
        return isinstance(links, dict) and {"response", "status"} <= links.keys()

    def tells(self) -> Told:
        """Return the state that it has."""
        if self.is_aip:
            if not self.members["done"]:
                return Told.RUNNING
            return self._aip_end()
        for name in ("status", "state", "TaskState"):
            word = self.members.get(name)
            if isinstance(word, str):
                return _STATES.get(_letters(word), Told.UNKNOWN)
        return Told.NOTHING

    @property
    def is_surely_running(self) -> bool:
        """Whether its status is a word for what is under way: a machine that is made runs, too."""
        word = self.members.get("status", self.members.get("state"))
        return isinstance(word, str) and _letters(word) in _SURELY_RUNNING

    def _aip_end(self) -> Told:
        error = self.members.get("error")
        if not isinstance(error, dict):
            return Told.SUCCEEDED
        return Told.CANCELLED if error.get("code") == 1 else Told.FAILED

    def result(self, accept: str) -> str | None:
        """Return where it says that the result is.

        Args:
            accept: What the caller accepts, if there are several representations.
        """
        for name in ("resourceLocation", "resource_location", "resultUrl", "result_url"):
            if isinstance(location := self.members.get(name), str):
                return location
        links = self.members.get("links")
        if isinstance(links, dict):
            return next(filter(None, (_href(links.get(n)) for n in ("response", *_RESULTS))), None)
        return _best([link for link in _links(links) if link.get("rel") in _RESULTS], accept)

    def monitor(self) -> str | None:
        """Return where it says that its own next state is."""
        for name in ("statusUrl", "status_url", "statusQueryGetUri", "monitorUrl"):
            if isinstance(location := self.members.get(name), str):
                return location
        links = self.members.get("links", self.members.get("_links"))
        if isinstance(links, dict):
            found = (_href(links.get(name)) for name in _MONITORS)
            return next(filter(None, found), None)
        return _best([link for link in _links(links) if link.get("rel") in _MONITORS], "")

    def progress(self, fields: Fields) -> Progress:
        """Return how far it is."""
        return progress(self.members, fields)


def _letters(word: str) -> str:
    return re.sub("[^a-z]", "", word.lower()[:100])


def _href(link: object) -> str | None:
    if isinstance(link, dict):
        link = link.get("href")
    return link if isinstance(link, str) else None


def _links(links: object) -> Iterator[Document]:
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and isinstance(link.get("href"), str):
            yield link


def _best(links: list[Document], accept: str) -> str | None:
    """Choose by type: the first that is accepted by name, else JSON, else the first."""
    kinds = [kind.partition(";")[0].strip().lower() for kind in accept.split(",")]
    for kind in (*kinds, "application/json"):
        for link in links:
            if link.get("type") == kind:
                return str(link["href"])
    return str(links[0]["href"]) if links else None


# --- progress ----------------------------------------------------------------------------------


def progress(members: Document, fields: Fields) -> Progress:
    """Collect what body and header fields say of the progress."""
    said = members.get("progress")
    if said is None and isinstance(members.get("metadata"), dict):
        said = members["metadata"]
    if isinstance(said, dict):
        total = said.get("total", said.get("of"))
        found = Progress(_number(said.get("completed")), _number(total), _text(said.get("message")))
    else:
        found = _percentage(members)
    message = found.message or _text(members.get("message")) or value_of(fields, "x-progress")
    return Progress(found.completed, found.total, message, _moment(members.get("estimate")))


def _percentage(members: Document) -> Progress:
    for name in ("percentComplete", "percentageComplete", "PercentComplete", "progress"):
        percent = _number(members.get(name))
        if percent is not None:
            return Progress(percent, 100.0)
    return Progress()


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) and value >= 0 else None
    except OverflowError:
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


# --- ends that are told instead of answered ----------------------------------------------------

# RFC 9110's statuses for the codes of google.rpc, as that file names them.
_OF_RPC = {
    **{1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409},
    **{11: 400, 12: 501, 13: 500, 14: 503, 15: 500, 16: 401},
}


def answer_within(document: StatusDocument) -> tuple[int, Fields, bytes] | None:
    """Return the response that a document of success has in it; None: it has none."""
    members = document.members
    inner = members.get("response") if document.is_aip else members.get("result")
    if inner is None:
        return (204, (), b"") if document.is_aip else None
    if isinstance(inner, dict) and str(inner.get("@type", "")).endswith("google.api.HttpBody"):
        try:
            data = base64.b64decode(inner.get("data", ""))
        except (binascii.Error, TypeError, ValueError):
            return None
        kind = inner.get("contentType")
        kind = kind if isinstance(kind, str) and kind.isprintable() else "application/octet-stream"
        return 200, (("content-type", kind),), data
    return 200, (("content-type", "application/json"),), json.dumps(inner).encode()


def error_within(document: StatusDocument, told: Told) -> tuple[int, Fields, bytes]:
    """Return the response that tells what a document tells of a failure, or a cancellation."""
    error = document.members.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    status = 410 if told is Told.CANCELLED else 500
    if document.is_aip and told is Told.FAILED:
        status = _OF_RPC.get(code, 500) if isinstance(code, int) else 500
    elif told is Told.FAILED and isinstance(error, dict):
        status = _status(error.get("status")) or _status(error.get("status_code")) or status
    state = "canceled" if told is Told.CANCELLED else "failed"
    fields = (("content-type", "application/json"), ("operation-status", state))
    return status, fields, json.dumps(document.members).encode()


def _status(value: object) -> int | None:
    is_one = isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599
    return value if is_one and isinstance(value, int) else None
