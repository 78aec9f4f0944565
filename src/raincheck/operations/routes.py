"""By what the durations of operations are told apart: a key for all paths of one route. Pure.

A path may hold the id of a thing or of a person, and anybody may ask for any path. So a segment
that looks like an id counts as any other, the others are hashed, and where many routes differ in
one segment only, they become one. What is made of a path is short, and says nobody's name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import lru_cache
from hashlib import blake2s

ROUTES = 100  # that an application's table has at most
SIBLINGS = 30  # routes that differ in one segment, which stay apart
SEGMENTS = 8  # of a path that count
ANY = "*"
_KEY = re.compile(r"[0-9a-f*.]{1,100}")
# Words, and versions of an API: what has another digit is an id more often than not.
_WORD = re.compile(r"v\d{1,2}|[A-Za-z][A-Za-z_.-]{0,31}")


@lru_cache(maxsize=256)
def key_of(method: str, route: str, salt: str) -> str:
    """Return the key of a route.

    Args:
        salt: The application's name: the same path in another one has another key.
    """
    segments = route.strip("/").split("/", SEGMENTS)[:SEGMENTS]
    return ".".join((_hashed(method[:32], salt), *(_part(one, salt) for one in segments)))


def is_key(text: str) -> bool:
    """Tell whether something may be a key."""
    return _KEY.fullmatch(text) is not None


def _part(segment: str, salt: str) -> str:
    return _hashed(segment, salt) if _WORD.fullmatch(segment) or not segment else ANY


def _hashed(word: str, salt: str) -> str:
    data = f"{salt}\0{word}".encode("utf-8", "surrogatepass")
    return blake2s(data, digest_size=4).hexdigest()


def resolve(known: Collection[str], key: str) -> str:
    """Return the key by which a route is known: its own, or one that it has become a part of."""
    if key in known:
        return key
    parts = key.split(".")
    return next((one for one in known if ANY in one and _covers(one.split("."), parts)), key)


def _covers(pattern: list[str], parts: list[str]) -> bool:
    return len(pattern) == len(parts) and all(
        mine in (ANY, theirs) for mine, theirs in zip(pattern, parts, strict=True)
    )


def fold(keys: Iterable[str]) -> dict[str, list[str]]:
    """Return the keys that are left where too many differ in one segment, and what each covers.

    The method is told apart always.
    """
    left = {key: [key] for key in keys}
    while (pattern := _crowded(left)) is not None:
        parts = pattern.split(".")
        covered = [key for key in left if _covers(parts, key.split("."))]
        left[pattern] = [one for key in covered for one in left.pop(key)]
    return left


def _crowded(keys: Iterable[str]) -> str | None:
    """Return the pattern that covers the most keys, if those are too many."""
    siblings = defaultdict[str, int](int)
    for key in keys:
        parts = key.split(".")
        for n, part in enumerate(parts[1:], 1):
            if part != ANY:
                siblings[".".join((*parts[:n], ANY, *parts[n + 1 :]))] += 1
    pattern = max(siblings, key=lambda one: siblings[one], default=None)
    return pattern if pattern is not None and siblings[pattern] > SIBLINGS else None
