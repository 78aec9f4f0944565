"""What the pages for browsers may be configured with. Pure: no template is read here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from raincheck.errors import ConfigurationError
from raincheck.operations.operation import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a page says; the option `page` is given one and returns its HTML.

    Attributes:
        status: The status of its response.
        kind: `"waiting"`, `"finished"`, or the `code` of the problem that it explains.
        language: A language tag, and the direction it is written in, `"ltr"` or `"rtl"`.
        title: As plain text.
        main: The element `<main>`, in HTML; all in it is escaped.
        script: What keeps a waiting page up to date, if it is in the page; else empty.
        refresh: The content of its header field `Refresh`, which is sent in any case; may be empty.
        style: What the default page looks like.
        progress: What the handler has said of it.
    """

    status: int
    kind: str
    language: str
    direction: str
    title: str
    main: str
    script: str = ""
    refresh: str = ""
    style: str = ""
    progress: Progress | None = None


def check_page(html: object, page: object) -> None:
    """Check the options of pages.

    Raises:
        ConfigurationError: One is wrong, or they contradict each other.
    """
    if not isinstance(html, bool) and not _is_texts(html):
        raise ConfigurationError(
            f'html must be True, False, or map languages to texts like {{"nl": {{"working": '
            f'"Bezig"}}}}, not {html!r}'
        )
    is_path = isinstance(page, str) and page != ""
    called = page if inspect.isroutine(page) else getattr(page, "__call__", None)  # noqa: B004
    is_callable = callable(page) and not inspect.iscoroutinefunction(called)
    if page is not None and not is_path and not is_callable:
        raise ConfigurationError(
            f"page must be the path of a template, or a callable that is not async: {page!r}"
        )
    if page is not None and html is False:
        raise ConfigurationError("page needs html: without it no page is shown")


def _is_texts(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(language, str)
        and isinstance(texts, Mapping)
        and all(isinstance(each, str) for pair in texts.items() for each in pair)
        for language, texts in value.items()
    )
