"""Where the answer to a request says that its operation is polled. Pure.

Which field says it decides what will be there: the response, or a monitor that only tells of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote

from raincheck.client.documents import StatusDocument
from raincheck.client.exchange import MONITOR_FIELDS, Answer, Asked, may_start
from raincheck.client.fields import linked, preference_applied, resolve
from raincheck.client.tokens import MONITOR, RESPONSE, Place

_LINKS = ("monitor", "status")


def place_of(asked: Asked, answer: Answer, template: str | None = None) -> Place | None:
    """Return where to poll; None: it is said nowhere, so there is nothing to follow.

    Args:
        template: Of the place, for who says only an id.
    """
    document = answer.document()
    place = _place_in_fields(asked, answer, document)
    if place is None and answer.status != 201:
        place = _place_in_text(asked, answer, document, template)
    if place is None:
        return None
    return cancellable(replace(place, id=document.id if document else None), document)


def names_place(asked: Asked, head: Answer, template: str | None) -> bool:
    """Tell whether the head of the request's answer says where to poll, whatever its body says."""
    is_start = may_start(head.status, head.headers, templated=template is not None)
    return is_start and place_of(asked, head, template) is not None


def cancellable(place: Place, document: StatusDocument | None) -> Place:
    """Add what to delete to cancel the operation; with AIP-151 it is a POST."""
    if document is not None and document.is_raincheck:
        return replace(place, cancel=resolve(place.url, document.result("")))
    if document is not None and document.is_aip:
        return replace(place, cancel=f"{place.url}:cancel")
    return replace(place, cancel=place.url)


def _place_in_fields(asked: Asked, answer: Answer, document: StatusDocument | None) -> Place | None:
    location = resolve(asked.url, answer.header("location"))
    beside = resolve(asked.url, answer.header("content-location"))
    monitor = _first(asked, map(answer.header, MONITOR_FIELDS))
    if answer.status == 201 and monitor is None:
        is_promise = preference_applied(answer.headers, "respond-async")
        is_running = document is not None and document.is_ogc
        is_one = location is not None and (is_promise or is_running)
        return _at(asked, location, MONITOR) if is_one else None
    if location is not None and (monitor is None or location == beside):
        return _at(asked, location, RESPONSE)
    if monitor is not None:
        return Place(monitor, MONITOR, _origin(asked), asked.method, result=location)
    return _at(asked, beside, RESPONSE) if answer.status == 202 else None


def _place_in_text(
    asked: Asked, answer: Answer, document: StatusDocument | None, template: str | None
) -> Place | None:
    is_accepted = answer.status == 202
    if is_accepted and (linking := linked(answer.headers, _LINKS)):
        return _at(asked, resolve(asked.url, linking), MONITOR)
    if document is None:
        return None
    if template is not None and (is_accepted or document.is_aip):
        return _at(asked, resolve(asked.url, _filled(template, document)), RESPONSE)
    return _at(asked, resolve(asked.url, document.monitor()), MONITOR) if is_accepted else None


def _at(asked: Asked, url: str | None, kind: str) -> Place | None:
    return Place(url, kind, _origin(asked), asked.method) if url is not None else None


def _origin(asked: Asked) -> str:
    """Keep of the request's URL what is needed: the rest may be a secret."""
    url = resolve(asked.url, asked.url if asked.method in ("PUT", "PATCH") else "/")
    return url or asked.url


def _first(asked: Asked, references: Iterable[str | None]) -> str | None:
    return next(filter(None, (resolve(asked.url, reference) for reference in references)), None)


def _filled(template: str, document: StatusDocument) -> str | None:
    """Put members of a document into a template."""
    for name, value in document.members.items():
        if isinstance(value, (str, int)):
            template = template.replace(f"{{{name}}}", quote(str(value), safe="/"))
    return None if "{" in template else template
