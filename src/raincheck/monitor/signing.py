"""Signed URLs: for a while, whoever has one may read the response of somebody else's operation.

The signature is the access and the URL says where: one of an operation is worth nothing for
another. When it expires is told by the clock of the store, which all processes share.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import TYPE_CHECKING

from raincheck.config.secret_options import Secrets, check_url_lifetime, url_secrets
from raincheck.errors import ConfigurationError

if TYPE_CHECKING:
    import itsdangerous

_SALT = b"raincheck.url"
_TOKEN = re.compile(r"([0-9]{1,12})\.([A-Za-z0-9_-]{43})")  # expiry, signature


class Signer:
    """Signs the right to read a response.

    Args:
        secrets: One, or several: the first signs, all are valid.
        lifetime: Seconds a signature is good for, at least.

    Raises:
        ConfigurationError: A secret is too short, or the package `itsdangerous` is missing.
    """

    def __init__(self, secrets: Secrets, lifetime: float) -> None:
        check_url_lifetime(lifetime)
        self._signer = _signer(url_secrets(secrets))
        self._lifetime = math.ceil(lifetime)

    def sign(self, operation_id: str, now: float) -> str:
        """Return a signature for a URL, good for at least the lifetime and less than twice that.

        All that are made within one lifetime are the same, and so are the documents they are in.

        Args:
            now: Seconds since the epoch by the store's clock.
        """
        expiry = str((math.ceil(now / self._lifetime) + 1) * self._lifetime)
        signature = self._signer.get_signature(_signed(expiry, operation_id))
        return f"{expiry}.{signature.decode('ascii')}"

    def is_valid(self, token: str, operation_id: str, now: float) -> bool:
        """Tell whether a signature is one for this operation and has not expired.

        Args:
            token: Anything that a client may send.
            now: Seconds since the epoch by the store's clock.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            return False
        expiry, signature = match.groups()
        is_ours = self._signer.verify_signature(_signed(expiry, operation_id), signature)
        return is_ours and now < int(expiry)


def _signed(expiry: str, operation_id: str) -> bytes:
    return f"{expiry}.{operation_id}".encode("utf-8", "surrogatepass")


def _signer(secrets: tuple[str, ...]) -> itsdangerous.Signer:
    try:
        from itsdangerous import Signer
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            'url_secret needs itsdangerous: pip install "raincheck[signed-urls]"'
        ) from error
    oldest_first = [secret.encode("utf-8", "surrogatepass") for secret in reversed(secrets)]
    return Signer(oldest_first, salt=_SALT, digest_method=hashlib.sha256)
