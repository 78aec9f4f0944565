"""The store for those who chose none: a file in the user's state directory, one per application.

An application is known by the directory it is started in and by what was started there, so that
all workers of one server, and the next ones after a restart, come to the same file.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from platformdirs import user_state_path

from raincheck.config.application import started
from raincheck.errors import StoreUnavailable, is_passing
from raincheck.operations.store import Store
from raincheck.stores import keep_bodies, open_store
from raincheck.stores.sqlite import SQLiteStore

if TYPE_CHECKING:
    from raincheck.config.options import Settings

FILE = "operations.db"
DIGEST = 12  # digits of what makes an application unique

logger = logging.getLogger("raincheck")


def store_from(settings: Settings) -> Store:
    """Return the store that the options `store` and `bodies` name.

    Raises:
        ConfigurationError: One is not the URL of what it should be.
    """
    option = settings.store
    if option is None:
        store = default_store()
    else:
        store = open_store(option) if isinstance(option, str) else option
    return keep_bodies(store, settings.bodies)


def default_store() -> Store:
    """Return the store of `RAINCHECK_STORE`, else the application's own file.

    Raises:
        ConfigurationError: `RAINCHECK_STORE` is not the URL of a store.
    """
    url = os.environ.get("RAINCHECK_STORE")
    return open_store(url) if url else SQLiteStore(_choose_path)


def files_of(directory: str) -> list[Path]:
    """Return the files of applications that may have been started in a directory.

    It is their directory's name that tells, so others of the same name may be among them.
    """
    readable = application_key([""], directory)[:-DIGEST]
    name = re.compile(rf"{re.escape(readable)}[0-9a-f]{{{DIGEST}}}")
    found: list[Path] = []
    for place in (_state_directory, _fallback):
        with suppress(OSError, RuntimeError):  # there is none, or it is not for this user
            paths = [path / FILE for path in place().iterdir() if name.fullmatch(path.name)]
            found += filter(_is_own, paths)
    return sorted(found)


def _is_own(path: Path) -> bool:
    """Tell whether a file is there, as one that is about to be made is not, and of this user."""
    with suppress(OSError):
        return path.stat().st_uid == os.getuid()
    return False


def others_here() -> list[Path]:
    """Return the files of what other commands have started in this directory."""
    directory = os.getcwd()
    own = application_key(sys.argv, directory)
    return [path for path in files_of(directory) if path.parent.name != own]


def application_key(arguments: Sequence[str], directory: str) -> str:
    """Name an application: readable first, then what makes it unique."""
    named = f"{directory}\n{started(arguments)}".encode(errors="replace")
    digest = hashlib.sha256(named).hexdigest()[:DIGEST]
    readable = re.sub(r"[^A-Za-z0-9]+", "-", os.path.basename(directory)).strip("-")[:40]
    return f"{readable}-{digest}" if readable else digest


def _choose_path() -> Path:
    name = Path(application_key(sys.argv, os.getcwd())) / FILE
    try:
        path = _state_directory() / name
        _make_private(path.parent)
        return path
    except (OSError, RuntimeError, StoreUnavailable) as error:  # RuntimeError: there is no home
        if is_passing(error):
            raise  # or this process would have another store than those that begin later
        fallback = _fallback() / name
        logger.warning("can't write the state directory (%s); using %s", error, fallback)
    _make_private(fallback.parent.parent)
    _make_private(fallback.parent)
    return fallback


def _state_directory() -> Path:
    return user_state_path("raincheck", appauthor=False)


def _fallback() -> Path:
    return Path(tempfile.gettempdir()) / f"raincheck-{os.getuid()}"


def _make_private(directory: Path) -> None:
    """Make a directory that only its owner can enter, or refuse somebody else's.

    Raises:
        OSError: It can't be written.
        StoreUnavailable: It is a link or belongs to somebody else: /tmp is open to everyone.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if directory.is_symlink() or directory.stat().st_uid != os.getuid():
        raise StoreUnavailable(f"{directory} is not this user's own directory; set RAINCHECK_STORE")
    directory.chmod(0o700)
    if not os.access(directory, os.W_OK | os.X_OK):
        raise PermissionError(f"{directory} is not writable")
