"""Placeholder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class HandedOver(Exception):
    """x."""


def native_exit(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], source: Mapping[str, Any] | None
) -> BaseException:
    """X."""
    import sys

    if (module := sys.modules.get("starlette.exceptions")) and source and "app" in source:
        return module.HTTPException(202)  # type: ignore[no-any-return]
    if (module := sys.modules.get("flask")) and module.has_request_context():
        from werkzeug.exceptions import HTTPException
        from werkzeug.wrappers import Response

        return HTTPException(response=Response(status=202))
    return HandedOver()


def is_exit(error: BaseException) -> bool:
    """X."""
    return isinstance(error, HandedOver)
