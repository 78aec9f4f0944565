"""The store of those who chose none: which file it is, and whose directory."""

from __future__ import annotations

import logging
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from raincheck.config.options import Settings
from raincheck.contracts import Store
from raincheck.errors import ConfigurationError, StoreError, StoreUnavailable
from raincheck.stores.default import application_key, default_store, others_here, store_from
from raincheck.stores.memory import MemoryStore
from raincheck.stores.sqlite import SQLiteStore
from raincheck.testing.material import in_threads, make_operation

ARGUMENTS = ["/venv/bin/uvicorn", "shop.main:app", "--workers", "4"]


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the test a user's state directory, a working directory and a command line."""
    (tmp_path / "my shop").mkdir()
    monkeypatch.chdir(tmp_path / "my shop")
    monkeypatch.setattr(sys, "argv", ARGUMENTS)
    monkeypatch.delenv("RAINCHECK_STORE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "state"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a temporary directory the only place that can be written."""
    directory = tmp_path / "tmp"
    directory.mkdir()
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    return directory


@pytest.fixture
def store() -> Iterator[Store]:
    with closing(default_store()) as store:
        yield store


def databases(directory: Path) -> list[Path]:
    return sorted(directory.rglob("operations.db"))


# --- which file --------------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_nothing_is_made_before_the_first_use(tmp_path: Path) -> None:
    assert sorted(os.listdir(tmp_path)) == ["my shop"]


def test_it_is_a_file_in_the_users_state_directory(state: Path, store: Store) -> None:
    store.create(make_operation())
    (path,) = databases(state)
    assert path.parent.parent == state / "raincheck"
    assert path.parent.name == application_key(ARGUMENTS, os.getcwd())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_two_middlewares_of_one_application_share_it(store: Store) -> None:
    store.create(make_operation())
    with closing(default_store()) as other:
        assert other.get("a") == make_operation()


def test_it_stays_what_it_was_at_its_first_use(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create(make_operation())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["other"])
    store.close()
    assert store.get("a") == make_operation()
    assert len(databases(tmp_path)) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["/venv/bin/hypercorn", "shop.main:app"],
        ["/other/python", "shop.main:app", "--port", "8001"],
        ["uvicorn", "--workers", "2", "--log-level=info", "shop.main:app"],
        ["uvicorn", "--host", "127.0.0.1:80", "-b", "0.0.0.0:8000", "[::]:80", "shop.main:app"],
    ],
)
def test_an_application_is_the_same_however_it_is_served(arguments: list[str]) -> None:
    assert application_key(arguments, "/srv") == application_key(ARGUMENTS, "/srv")


@pytest.mark.parametrize(
    ("arguments", "directory"),
    [
        (ARGUMENTS, "/srv/b"),
        (["uvicorn", "shop.admin:app"], "/srv/a"),
        (["uvicorn", "shop.main:create_app()"], "/srv/a"),
        (["serve.py"], "/srv/a"),
        ([], "/srv/a"),
    ],
)
def test_other_applications_have_other_keys(arguments: list[str], directory: str) -> None:
    assert application_key(arguments, directory) != application_key(ARGUMENTS, "/srv/a")


@pytest.mark.parametrize(
    "directory", ["/", "", "/srv/ü/…", "/srv/a b", "/srv/\udc80", "/" + "x" * 255]
)
def test_a_key_is_a_safe_file_name(tmp_path: Path, directory: str) -> None:
    key = application_key(["serve.py"], directory)
    assert key.isascii()
    assert key.replace("-", "").isalnum()
    (tmp_path / key).mkdir()


def test_a_key_begins_with_what_a_human_knows() -> None:
    assert application_key(ARGUMENTS, "/srv/my shop").startswith("my-shop-")


# --- the choice of somebody --------------------------------------------------------------------


def test_the_environment_chooses_by_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAINCHECK_STORE", "memory:")
    assert isinstance(default_store(), MemoryStore)
    monkeypatch.setenv("RAINCHECK_STORE", f"sqlite://{tmp_path}/mine/x.db")
    with closing(default_store()) as store:
        assert not (tmp_path / "mine").exists()
        store.create(make_operation())
    assert (tmp_path / "mine" / "x.db").exists()


def test_an_empty_choice_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAINCHECK_STORE", "")
    assert isinstance(default_store(), SQLiteStore)


def test_a_wrong_choice_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAINCHECK_STORE", "mysql://user:s3cret@localhost/x")
    with pytest.raises(ConfigurationError) as caught:
        default_store()
    assert "s3cret" not in str(caught.value)


def test_the_option_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAINCHECK_STORE", "mysql:")
    own = MemoryStore()
    assert store_from(Settings(store=own)) is own
    assert isinstance(store_from(Settings(store="memory:")), MemoryStore)
    with pytest.raises(ConfigurationError):
        store_from(Settings())


# --- where the state directory can't be written ------------------------------------------------


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_temporary_directory_takes_over_with_one_warning(
    temporary: Path, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(3):
        store.create(make_operation(f"{n}"))
        store.write_chunk(f"{n}", 1, 0, b"x" * 100_000)
    (path,) = databases(temporary)
    assert path.parent.parent == temporary / f"raincheck-{os.getuid()}"
    for directory in (path.parent, path.parent.parent):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    (warning,) = warnings(caplog)
    assert str(path) in warning


@pytest.mark.usefixtures("temporary")
def test_threads_that_use_it_first_together_share_the_warning(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    in_threads(8, lambda i: store.create(make_operation(f"{i}")))
    assert len(warnings(caplog)) == 1


def test_there_is_no_warning_where_all_is_well(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.create(make_operation())
    assert warnings(caplog) == []


def test_a_link_that_waits_in_the_temporary_directory_is_refused(
    temporary: Path, tmp_path: Path, store: Store
) -> None:
    (tmp_path / "trap").mkdir()
    (temporary / f"raincheck-{os.getuid()}").symlink_to(tmp_path / "trap")
    with pytest.raises(StoreUnavailable, match="RAINCHECK_STORE"):
        store.create(make_operation())
    assert os.listdir(tmp_path / "trap") == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_somebody_elses_directory_is_refused(temporary: Path, store: Store) -> None:
    other = temporary / f"raincheck-{os.getuid()}"
    other.mkdir(mode=0o777)
    os.chown(other, 12345, 12345)
    with pytest.raises(StoreUnavailable, match="RAINCHECK_STORE"):
        store.create(make_operation())
    assert os.listdir(other) == []


@pytest.mark.parametrize("use", ["create", "incarnation", "write"])
def test_where_nothing_can_be_written_the_store_is_unavailable(
    temporary: Path, store: Store, use: str
) -> None:
    assert isinstance(store, SQLiteStore)
    (temporary / f"raincheck-{os.getuid()}").symlink_to(temporary / "nowhere")
    uses: dict[str, Callable[[], object]] = {
        "create": lambda: store.create(make_operation()),
        "incarnation": store.incarnation,
        "write": lambda: store.write_chunk("a", 1, 0, b"x" * 100_000),
    }
    with pytest.raises(StoreError):
        uses[use]()


def test_a_directory_others_may_write_is_not_trusted(temporary: Path, store: Store) -> None:
    own = temporary / f"raincheck-{os.getuid()}"
    own.mkdir()
    own.chmod(0o777)
    store.create(make_operation())
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


def test_others_of_this_directory_are_found_beside_one_that_has_no_file_yet(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(default_store()) as web:
        web.create(make_operation())
    monkeypatch.setattr(sys, "argv", ["/venv/bin/raincheck", "work", "shop.other:app"])
    for digits in ("0" * 12, "f" * 12):  # directories are listed in no order
        (state / "raincheck" / f"my-shop-{digits}").mkdir()
    assert others_here() == [path for path in databases(state) if path.is_file()]
