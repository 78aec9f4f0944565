"""The demo's slow work: the smallest `.tar.xz` of some files.

Which setting of LZMA is best differs from package to package, so all of them compress the same
tar stream side by side, and the smallest result is kept. That is a few seconds of CPU for each
megabyte. The compressors release the interpreter's lock, so other requests go on.
"""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

from raincheck.cli.demo.library import member_name
from raincheck.handler import current_operation

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# How many bits of the byte before, and of the position, predict the next byte (xz(1): lc, pb).
SETTINGS = ((0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (3, 2))
DICTIONARY = 1024 * 1024  # bytes; each compressor takes a dozen times as many


def build_archive(files: Sequence[Path]) -> IO[bytes]:
    """Return the archive as a file without a name: it is gone when it is closed or we are.

    Raises:
        OperationCancelled: Nobody wants it any more.
    """
    operation = current_operation()
    with Compressors() as compressors:
        # "w|" never seeks and writes blocks of 10 KiB: no file keeps the lock for long.
        with tarfile.open(fileobj=compressors, mode="w|") as archive:
            for done, file in enumerate(files):
                operation.raise_if_cancelled()
                operation.progress(done, total=len(files), message=member_name(file))
                _add(archive, file)
        operation.progress(len(files), total=len(files), message="choosing the smallest")
        return compressors.smallest()


def _add(archive: tarfile.TarFile, file: Path) -> None:
    """Add a file without its owner and mode: the same files make the same archive."""
    with file.open("rb") as content:
        found = os.fstat(content.fileno())
        member = tarfile.TarInfo(member_name(file))
        member.size, member.mtime = found.st_size, int(found.st_mtime)
        archive.addfile(member, content)


class Compressors(io.RawIOBase):
    """Compresses what is written to it in several ways, each into a temporary file."""

    def __init__(self) -> None:
        self._all = [_compressor(*setting) for setting in SETTINGS]
        self._outputs = [tempfile.TemporaryFile() for _ in SETTINGS]  # noqa: SIM115 - see close

    def write(self, data: ReadableBuffer, /) -> int:
        """Compress more."""
        block = bytes(data)
        for compressor, output in zip(self._all, self._outputs, strict=True):
            output.write(compressor.compress(block))
        return len(block)

    def smallest(self) -> IO[bytes]:
        """Finish, and return the smallest result from its beginning; the caller closes it."""
        for compressor, output in zip(self._all, self._outputs, strict=True):
            output.write(compressor.flush())
        best = min(self._outputs, key=lambda output: output.tell())
        self._outputs.remove(best)
        best.seek(0)
        return best

    def close(self) -> None:
        """Close, and with it delete, what is left of the temporary files."""
        for output in self._outputs:
            output.close()
        super().close()


def _compressor(literal_bits: int, position_bits: int) -> lzma.LZMACompressor:
    lzma2 = {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": DICTIONARY,
        "lc": literal_bits,
        "lp": 0,
        "pb": position_bits,
    }
    return lzma.LZMACompressor(filters=[lzma2])
