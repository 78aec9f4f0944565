"""What the options say of workers that run handlers instead of the process that is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from raincheck.errors import ConfigurationError

Workers = Mapping[str, Callable[[str], object]]


def check_workers(runners: object, workers: object, application: str | None) -> None:
    """Check the options `runners` and `workers`.

    Raises:
        ConfigurationError: One of them has a wrong type, or workers could not know the application.
    """
    _check(runners, "runners must map path patterns to names of workers", _is_text)
    _check(workers, "workers must map names to callables (operation id)", callable)
    if workers and application is None:
        raise ConfigurationError(
            "workers needs application: what another engine starts can't tell by itself that it is "
            "the same application; give it a name, such as application='shop'"
        )


def _is_text(value: object) -> bool:
    """Tell whether a value is a name."""
    return isinstance(value, str) and bool(value)


def _check(option: object, rule: str, is_right: Callable[[object], bool]) -> None:
    if option is None:
        return
    if not isinstance(option, Mapping):
        raise ConfigurationError(f"{rule}, not {type(option).__name__}")
    for key, value in option.items():
        if not _is_text(key) or not is_right(value):
            raise ConfigurationError(f"{rule}; {key!r} has {value!r}")
