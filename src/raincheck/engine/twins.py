"""Names that one application may have because servers start it in different ways. Pure.

`gunicorn -c conf.py m:app`, `flask --app m run`, `manage.py runserver` and `python m.py` start what
`m:app` is, in the same directory; only what was told to start differs. To run what another process
has accepted that may do for a worker, which somebody has given the store and the queue of; to show
it, or to run it again unasked, it does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from raincheck.config.application import targets_of

_SCRIPT = "__main__"  # the module of a program


@dataclass(frozen=True, slots=True)
class Called:
    """What an application that has been told no name is called by.

    Attributes:
        kind: Of middleware.
        started: What the server was told to start.
        prefix: The option of that name.
        directory: Where it was started.
        homes: Where it is a global, `module:name`; of Django, the module of the settings.
        otherwise: What it is called if it is none.
    """

    kind: str
    started: str
    prefix: str
    directory: str
    homes: frozenset[str]
    otherwise: str

    def may_be(self, name: str) -> bool:
        """Tell whether a name is of the same application, which another server has started.

        Args:
            name: Without its root path.
        """
        begin, middle = f"{self.kind} ", f" {self.prefix} in {self.directory}: "
        start, _, home = name.partition(middle)
        if not home or not start.startswith(begin):
            return False
        theirs, ours = targets_of(start.removeprefix(begin)), targets_of(self.started)
        if self.homes:
            is_told_alike = self.kind == "django" or not theirs or not ours or theirs == ours
            return is_told_alike and self._lives_at(home, start.removeprefix(begin))
        return home == self.otherwise and theirs == ours != []

    def _lives_at(self, home: str, started: str) -> bool:
        if home in self.homes:
            return True
        module, _, name = home.partition(":")
        return module == _SCRIPT and f"{started.removesuffix('.py')}:{name}" in _short(self.homes)


def is_program(name: str) -> bool:
    """Tell whether an application that is called so is a global of the program that was started."""
    return name.rpartition(": ")[2].startswith(f"{_SCRIPT}:")


def _short(homes: Iterable[str]) -> set[str]:
    """Return homes without the packages that their modules are in: a program tells of none."""
    return {home.rpartition(".")[2] if home.count(":") == 1 else home for home in homes}
