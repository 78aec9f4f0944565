"""The file that a response is written to until it is complete, and the note beside it."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has none


class Replaced(Exception):
    """Another run has begun the file anew."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What is kept beside a file that is not complete, to go on later.

    Attributes:
        token: Of the operation, or of its response.
        etag: Of the response whose start is in the file; None: nothing is in it.
        size: Of the whole response, in bytes; None: it has not said.
        mark: Of the file that the start is in: no other one is gone on with.
    """

    token: str
    etag: str | None = None
    size: int | None = None
    mark: int | None = None


class Part:
    """A file that is being written, under another name until it is complete.

    The token lets one in where the URL does: nobody else may read it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path = path.resolve()  # what a link leads to is written, and the link stays
        self._part = path.with_name(f"{path.name}.part")
        self._state = path.with_name(f"{path.name}.raincheck")

    def saved(self) -> Saved | None:
        """Return what an earlier run has left; None: nothing."""
        try:
            saved = Saved(**json.loads(self._state.read_text()))
        except (OSError, ValueError, TypeError):
            return None
        has_start = saved.mark is not None and saved.mark == self._mark()
        return saved if has_start else Saved(saved.token)

    def save(self, saved: Saved) -> None:
        """Leave a note for a later run, in place of the last one."""
        descriptor, name = tempfile.mkstemp(prefix=f"{self._state.name}.", dir=self._state.parent)
        try:
            with open(descriptor, "w") as file:
                json.dump(asdict(saved), file)
            os.replace(name, self._state)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def begin(self, saved: Saved | None) -> BinaryIO:
        """Begin anew: no note says of the new file what was so of the old one.

        Args:
            saved: What to leave for a later run; None: it can't go on.
        """
        if saved is None:
            self._state.unlink(missing_ok=True)
        else:
            self.save(Saved(saved.token))
        self._part.unlink(missing_ok=True)
        file = self._part.open("xb")
        if saved is not None and saved.etag is not None:
            self.save(replace(saved, mark=os.fstat(file.fileno()).st_ino))
        return file

    def go_on(self) -> BinaryIO:
        """Open what is there, at its end."""
        file = os.fdopen(os.open(self._part, os.O_RDWR | _NO_FOLLOW), "r+b")
        file.seek(0, os.SEEK_END)
        return file

    def complete(self, file: BinaryIO) -> None:
        """Give a file its name, and close it.

        Raises:
            Replaced: What has the name of the part is another file.
        """
        with file:
            mark = os.fstat(file.fileno()).st_ino
        if mark != self._mark():
            raise Replaced(f"{self._part}: another run has begun it anew")
        self._part.replace(self.path)
        self._state.unlink(missing_ok=True)

    def forget(self) -> None:
        """Leave nothing."""
        self._part.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def _mark(self) -> int | None:
        try:
            return self._part.lstat().st_ino
        except OSError:
            return None
