"""Text of others on a terminal, which would obey control characters; times and sizes for people."""

from __future__ import annotations

import math

LONGEST = 60  # characters of what others may make as long as they like
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60))


def plain(text: str, longest: int = LONGEST) -> str:
    """Return a text for a terminal, cut, and without what it would obey."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def duration(seconds: float) -> str:
    """Write a time span in its two largest units: 3d 4h, 12m 5s, 0s."""
    rest = max(0, int(seconds)) if math.isfinite(seconds) else 0
    parts: list[str] = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count}{unit}")
    parts.append(f"{rest}s")
    return " ".join(part for part in parts[:2] if part[0] != "0" or len(parts) == 1)


def size(count: int) -> str:
    """Write a number of bytes in a unit of at most four digits."""
    amount = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
