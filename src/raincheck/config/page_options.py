"""What the pages for browsers may be configured with. Pure: no template is read here."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from raincheck.errors import ConfigurationError


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
    is_callable = callable(page) and not inspect.iscoroutinefunction(page)
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
