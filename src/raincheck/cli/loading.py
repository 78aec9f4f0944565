"""Why an application could not be loaded: what it has raised itself."""

from __future__ import annotations

import os
import traceback


def explained(sentence: str, cause: BaseException | None) -> str:
    """Add the traceback of what the application has raised itself, without our part of it."""
    if cause is None:
        return sentence
    place = cause.__traceback__
    while place is not None and place.tb_next and _is_ours(place.tb_frame.f_code.co_filename):
        place = place.tb_next
    lines = traceback.format_exception(type(cause), cause, place)
    return f"{sentence}:\n\n{''.join(lines).rstrip()}"


_PACKAGE = os.path.dirname(os.path.dirname(__file__))


def _is_ours(path: str) -> bool:
    return path.startswith((_PACKAGE, "<frozen importlib")) or (
        f"{os.sep}importlib{os.sep}" in path
    )
