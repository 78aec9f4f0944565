"""`raincheck store`, and which store commands work on; every command on every store once."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from raincheck.operations.operation import State
from raincheck.operations.store import Store
from raincheck.stores import open_store
from raincheck.stores.default import application_key
from raincheck.stores.postgresql import schema as postgresql_schema
from tests.cli.conftest import Commands, keep, keep_response
from tests.stores.redis.keys import keys_on
from tests.support.real_servers import postgresql_url, redis_url

COUNTS = {"accepted": 1, "running": 1, "cancelling": 0, "succeeded": 1, "failed": 0}


@pytest.fixture
def redis() -> Iterator[str]:
    with keys_on(redis_url()) as keys:
        yield keys.url


@pytest.fixture
def postgresql() -> Iterator[str]:
    name = f"rain_{secrets.token_hex(4)}"
    yield f"{postgresql_url()}?schema={name}"
    with psycopg.connect(postgresql_url(), autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


def fill(url: str) -> None:
    with closing(open_store(url)) as store:
        keep(store, "waiting-1", State.ACCEPTED, 3_600.0)
        keep(store, "running-1", State.RUNNING, 1_800.0)
        keep_response(store, "ended---1", b"the report", age=7_200.0)


def check(url: str, raincheck: Commands) -> None:
    """Do everything with it."""
    fill(url)
    [info] = raincheck("store", "info", "--store", url, "--json").documents
    assert info["oldest_waiting"]["id"] == "waiting-1"
    assert info["round_trip_ms"] > 0
    assert info["operations"]["ended"] == 1
    assert all(info["operations"][name] in (count, None) for name, count in COUNTS.items())
    assert raincheck("list", "--store", url).ids == ["running-", "waiting-", "ended---"]
    assert raincheck("show", "ende", "--store", url).status == 0
    assert raincheck("cancel", "wait", "--store", url).out == "waiting-  cancelled\n"
    early = ["purge", "--state=ended", "--older-than=90m", "--yes", "--store", url]
    assert raincheck(*early).out == "1 response was forgotten\n"
    with closing(open_store(url)) as store:
        stored = store.get("ended---1")
    assert stored is not None
    assert stored.forgotten


def test_all_commands_work_on_sqlite(url: str, raincheck: Commands) -> None:
    check(url, raincheck)


@pytest.mark.server
def test_all_commands_work_on_redis(redis: str, raincheck: Commands) -> None:
    check(redis, raincheck)
    said = raincheck("store", "migrate", "--store", redis)
    assert "nothing to do" in said.out


@pytest.mark.server
def test_all_commands_work_on_postgresql(postgresql: str, raincheck: Commands) -> None:
    said = raincheck("list", "--store", postgresql)
    assert (said.status, said.out) == (1, "")
    assert "there is no store at" in said.err
    info = raincheck("store", "info", "--store", postgresql)
    assert info.status == 1
    assert "none yet" in info.out, "and made none"
    assert raincheck("store", "migrate", "--store", postgresql).status == 1
    assert "were made" in raincheck("store", "init", "--store", postgresql).out
    check(postgresql, raincheck)


@pytest.mark.server
def test_older_tables_are_not_changed_by_a_look(
    postgresql: str, raincheck: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = len(postgresql_schema.STEPS)
    assert raincheck("store", "init", postgresql).status == 0
    assert "nothing to do" in raincheck("store", "migrate", "--store", postgresql).out
    steps = [*postgresql_schema.STEPS, ("SELECT 1",)]
    monkeypatch.setattr(postgresql_schema, "STEPS", steps)
    monkeypatch.setattr("raincheck.stores.postgresql.STEPS", steps)
    said = raincheck("list", "--store", postgresql)
    assert said.status == 1
    assert f"are of version {now}, and this raincheck needs {now + 1}" in said.err
    assert "store migrate" in raincheck("store", "info", "--store", postgresql).out
    migrated = raincheck("store", "migrate", "--store", postgresql)
    assert f"were brought from version {now} to {now + 1}" in migrated.out
    assert raincheck("list", "--store", postgresql).status == 0


def test_info_is_for_people_too(store: Store, raincheck: Commands, tmp_path: Path) -> None:
    keep(store, "waiting-1", State.ACCEPTED, 65.0)
    out = raincheck("store", "info").out
    shown = dict(line.split(maxsplit=1) for line in out.splitlines() if "oldest" not in line)
    assert shown["place"] == str(tmp_path / "operations.db")
    assert shown["accepted"] == "1"
    assert "oldest waiting  waiting-, for 1m 5s" in out


@pytest.mark.parametrize("command", [["list"], ["store", "info"], ["show", "x"], ["purge"]])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:s3cret@127.0.0.1:1/x?password=s3cret",
        "redis://u:s3cret@127.0.0.1:1/0",
        "mysql://u:s3cret@h/x",
    ],
)
def test_no_password_is_shown(url: str, command: list[str], raincheck: Commands) -> None:
    said = raincheck(*command, "--store", url)
    assert said.status in (1, 2)
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "s3cret" not in said.err


@pytest.mark.parametrize("command", [["list"], ["purge"], ["cancel", "abcd"], ["show", "abcd"]])
def test_a_wrong_path_makes_no_file(
    command: list[str], tmp_path: Path, raincheck: Commands
) -> None:
    said = raincheck(*command, "--store", f"sqlite://{tmp_path}/wrong.db")
    assert said.status == 1
    assert f"there is no store at {tmp_path}/wrong.db" in said.err
    assert list(tmp_path.iterdir()) == []


# --- the store that nobody has named -------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be where an application is started, and return where its file will be."""
    directory, state = tmp_path / "my app", tmp_path / "state"
    directory.mkdir()
    monkeypatch.chdir(directory)
    monkeypatch.delenv("RAINCHECK_STORE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return state / "raincheck"


def start(here: Path, *arguments: str) -> str:
    """Do what an application does that is started so."""
    path = here / application_key(["uvicorn", *arguments], str(Path.cwd())) / "operations.db"
    url = f"sqlite://{path}"
    fill(url)
    return url


def test_the_file_of_the_application_is_found(here: Path, raincheck: Commands) -> None:
    start(here, "app:app")
    stranger = here / "another-0123456789ab" / "operations.db"
    fill(f"sqlite://{stranger}")
    assert len(raincheck("list").ids) == 3


def test_several_applications_are_to_be_chosen_from(here: Path, raincheck: Commands) -> None:
    urls = [start(here, name) for name in ("app:app", "other:app")]
    said = raincheck("list")
    assert (said.status, said.out) == (2, "")
    for url in urls:
        assert f"  --store {url}\n" in said.err
    assert raincheck("list", "--store", urls[0]).status == 0


def test_without_any_application_it_is_said_what_to_do(here: Path, raincheck: Commands) -> None:
    said = raincheck("list")
    assert said.status == 1
    assert "--store or RAINCHECK_STORE" in said.err
    assert not here.exists()
