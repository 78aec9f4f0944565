"""Stores reach their servers by TLS, and say what is wrong with it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import psycopg
import pytest
import redis

from raincheck.contracts import Store
from raincheck.errors import StoreUnavailable
from raincheck.stores import open_store
from raincheck.testing.material import changed, hears, make_operation
from tests.support.processes import free_port
from tests.support.real_servers import PostgreSQLServer, RedisServer

pytestmark = pytest.mark.server
PASSWORD = "s3cret@:/?#[]%&=+ ü"  # noqa: S105
SUBJECT = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]


class Certificate(NamedTuple):
    """A certificate that only who is given it trusts."""

    certificate: Path
    key: Path


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    if shutil.which("openssl") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI has to have openssl", pytrace=False)
        pytest.skip("there is no openssl")
    directory = tmp_path_factory.mktemp("tls")
    made = Certificate(directory / "certificate.pem", directory / "key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *SUBJECT]
    files = ["-out", str(made.certificate), "-keyout", str(made.key)]
    subprocess.run([*command, *files], check=True, capture_output=True)
    return made


class TLSRedisServer(RedisServer):
    """Speaks TLS on another port."""

    def __init__(self, certificate: Certificate) -> None:
        super().__init__()
        self._certificate = certificate
        self.tls_port = free_port()

    def _command(self) -> list[str]:
        certificate, key = map(str, self._certificate)
        tls = ["--tls-port", f"{self.tls_port}", "--tls-auth-clients", "no"]
        files = ["--tls-cert-file", certificate, "--tls-key-file", key]
        return [*super()._command(), *tls, *files, "--tls-ca-cert-file", certificate]


class TLSPostgreSQLServer(PostgreSQLServer):
    """Takes passwords, by TLS, and nothing else."""

    def __init__(self, certificate: Certificate) -> None:
        self._certificate = certificate
        super().__init__()

    def _command(self) -> list[str]:
        options: list[str] = []
        for name, file in (("ssl_cert_file", 0), ("ssl_key_file", 1)):
            own = self.directory / name  # it has to be the server's user's
            shutil.copy(self._certificate[file], own)
            own.chmod(0o600)
            if self._user is not None:
                os.chown(own, self._user, -1)
            options += ["-c", f"{name}={own}"]
        return [*super()._command(), "-c", "ssl=on", *options]

    def want_password(self) -> None:
        """Give its user the password, and refuse who has another one, or no TLS."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"ALTER USER postgres PASSWORD '{PASSWORD}'")
            rules = self.directory / "data" / "pg_hba.conf"
            rules.write_text("hostssl all all all scram-sha-256\n")
            connection.execute("SELECT pg_reload_conf()")


def works(store: Store) -> bool:
    """Tell whether calls and a watch do."""
    with closing(store), closing(store.watch(0.1)) as watch:
        next(watch)
        old = store.create(make_operation())
        return hears(watch, "a") and store.swap(old, changed(old))


@pytest.fixture
def redis_server(certificate: Certificate) -> Iterator[TLSRedisServer]:
    server = TLSRedisServer(certificate)
    try:
        server.start()
    except RuntimeError as error:
        server.remove()
        if "tls" not in f"{error}":
            raise
        pytest.skip("this server was built without TLS")
    with redis.Redis.from_url(server.url, protocol=2) as client:
        client.config_set("requirepass", PASSWORD)
    yield server
    server.remove()


def test_a_redis_store_speaks_tls(redis_server: TLSRedisServer, certificate: Certificate) -> None:
    url = f"rediss://:{quote(PASSWORD, safe='')}@localhost:{redis_server.tls_port}/0"
    assert works(open_store(f"{url}?ssl_ca_certs={certificate.certificate}"))
    trusted = pytest.raises(StoreUnavailable, match="trusts the server's certificate")
    with closing(open_store(url)) as store, trusted as caught:
        store.get("a")
    assert "s3cret" not in f"{caught.value} {caught.value.__cause__}"


def test_a_redis_store_that_does_not_speak_tls_says_what_failed(
    redis_server: TLSRedisServer,
) -> None:
    url = f"rediss://localhost:{redis_server.port}/0?timeout=1&ssl_cert_reqs=none"
    with closing(open_store(url)) as store, pytest.raises(StoreUnavailable, match="localhost"):
        store.get("a")


def test_a_postgresql_store_speaks_tls(certificate: Certificate) -> None:
    with TLSPostgreSQLServer(certificate) as server:
        server.want_password()
        password = quote(PASSWORD, safe="")
        url = f"postgresql://postgres:{password}@localhost:{server.port}/test?sslmode="
        assert works(open_store(f"{url}require"))
        with closing(
            open_store(f"{url}verify-full&sslrootcert={certificate.certificate}")
        ) as store:
            assert store.get("a") is not None
        for mode in ("disable", f"verify-full&sslrootcert={certificate.key}"):
            refused = pytest.raises(StoreUnavailable, match=f"localhost:{server.port}")
            with closing(open_store(f"{url}{mode}")) as store, refused as caught:
                store.get("a")
            assert "s3cret" not in f"{caught.value} {caught.value.__cause__}"
