"""How captured requests lie in the store: as they came, or encrypted.

They hold credentials. A sealed request shows nothing of the original but the size of its body; all
else is in one token. Each chunk of the body is sealed on its own. Every token says inside where
its place is: whoever can write to the store can neither read a request nor put a part of one in the
place of another. But a request that is not sealed is taken as it is, also where there is a key: it
may be from before.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from raincheck.config.secret_options import Secrets, encryption_keys
from raincheck.errors import ConfigurationError, StoreError, WrongKey, abbreviate
from raincheck.http.messages import Request
from raincheck.operations.records import decode_request, encode_request

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

FIELD = b"raincheck-sealed"
_PLACE = 32  # bytes


class Sealing(Protocol):
    """Turns captured requests into what the store keeps, and back."""

    def seal(self, request: Request, operation_id: str) -> Request:
        """Return what the store is to have in the place of a request."""
        ...

    def open(self, stored: Request, operation_id: str) -> Request:
        """Return the original of what `seal` made.

        Raises:
            WrongKey: It can't be opened with the keys there are.
            StoreError: It is that of another operation.
        """
        ...

    def seal_chunk(self, data: bytes, operation_id: str, n: int) -> bytes:
        """Return what the store is to have in the place of chunk `n` of a body."""
        ...

    def open_chunk(self, stored: bytes, operation_id: str, n: int) -> bytes:
        """Return the original of what `seal_chunk` made.

        Raises:
            WrongKey: It can't be opened with the keys there are.
            StoreError: It belongs to another place.
        """
        ...


class Plain:
    """Leaves everything as it came."""

    def seal(self, request: Request, operation_id: str) -> Request:
        """Return the request."""
        return request

    def open(self, stored: Request, operation_id: str) -> Request:
        """Return the request.

        Raises:
            WrongKey: It is sealed.
        """
        if is_sealed(stored):
            raise WrongKey(operation_id)
        return stored

    def seal_chunk(self, data: bytes, operation_id: str, n: int) -> bytes:
        """Return the chunk."""
        return data

    def open_chunk(self, stored: bytes, operation_id: str, n: int) -> bytes:
        """Return the chunk."""
        return stored


class Sealed:
    """Encrypts with Fernet.

    Args:
        keys: A Fernet key, or several: the first encrypts, all decrypt.

    Raises:
        ConfigurationError: A key is none, or the package `cryptography` is missing.
    """

    def __init__(self, keys: Secrets) -> None:
        self._fernet = _fernet(encryption_keys(keys))

    def seal(self, request: Request, operation_id: str) -> Request:
        """Return a request that only holds a token."""
        data = encode_request(request).encode("utf-8")
        token = self._seal(data, _place_of(operation_id))
        bare = Request(method="", path="", length=request.length, chunk_size=request.chunk_size)
        return replace(bare, headers=((FIELD, token),))

    def open(self, stored: Request, operation_id: str) -> Request:
        """Return the original request.

        Raises:
            WrongKey: It can't be opened with these keys.
            StoreError: It is that of another operation.
        """
        token = stored.header(FIELD) or b""
        return decode_request(self._open(token, operation_id, _place_of(operation_id)))

    def seal_chunk(self, data: bytes, operation_id: str, n: int) -> bytes:
        """Return a token."""
        return self._seal(data, _place_of(operation_id, n))

    def open_chunk(self, stored: bytes, operation_id: str, n: int) -> bytes:
        """Return the original chunk.

        Raises:
            WrongKey: It can't be opened with these keys.
            StoreError: It belongs to another place.
        """
        return self._open(stored, operation_id, _place_of(operation_id, n))

    def _seal(self, data: bytes, place: bytes) -> bytes:
        return self._fernet.encrypt(place + data)

    def _open(self, token: bytes, operation_id: str, place: bytes) -> bytes:
        from cryptography.fernet import InvalidToken

        try:
            data = self._fernet.decrypt(token)
        except InvalidToken:
            raise WrongKey(operation_id) from None
        if data[:_PLACE] != place:
            raise StoreError(
                f"in the place of the request of operation {abbreviate(operation_id)}, or of a "
                "part of it, is another one: see who can write to the store"
            )
        return data[_PLACE:]


PLAIN = Plain()


def is_sealed(stored: Request) -> bool:
    """Tell whether the store has a token in the place of a request: no other lacks a method."""
    return not stored.method and stored.header(FIELD) is not None


def sealing_with(keys: Secrets) -> Sealing:
    """Return what the option `encryption_key` asks for.

    Raises:
        ConfigurationError: A key is none, or the package `cryptography` is missing.
    """
    return PLAIN if keys is None else Sealed(keys)


def _place_of(operation_id: str, n: int | None = None) -> bytes:
    part = "request" if n is None else str(n)
    return hashlib.sha256(f"{part} {operation_id}".encode("utf-8", "surrogatepass")).digest()


def _fernet(keys: tuple[str, ...]) -> MultiFernet:
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            'encryption_key needs cryptography: pip install "raincheck[encryption]"'
        ) from error
    return MultiFernet([Fernet(key) for key in keys])
