"""Files as streams of bytes, decompressed on the way, a bounded amount at a time."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from streamflow.errors import SourceError
from streamflow.operators.connectors.files.failures import reading
from streamflow.operators.connectors.files.formats.formats import Compression

if TYPE_CHECKING:
    from zstandard import ZstdDecompressionObj

__all__ = ["ByteStream", "open_stream", "refuse_other_bytes"]

_BLOCK: Final = 4096
"""Compressed bytes read at a time: zstd can expand one block to 128 KiB, so this bounds the output."""

_COMPRESSED: Final = {b"\x1f\x8b": ("gzip", ".gz"), b"\x28\xb5\x2f\xfd": ("zstd", ".zst")}
"""First bytes of compressed files, which no UTF-8 text has. Polars would decompress such files on its own."""


class ByteStream(Protocol):
    """A stream of decompressed bytes in order."""

    def read(self, size: int) -> bytes:
        """About `size` bytes, at least one; b"" at the end. Raises SourceError for a damaged or cut-off file."""
        ...

    def close(self) -> None: ...


def open_stream(
    path: str, compression: Compression, *, offset: int = 0, end: int | None = None
) -> ByteStream:
    """The content of a file from `offset` on, up to `end` (both in decompressed bytes)."""
    stream: ByteStream
    with reading(path):
        if compression == "none":
            stream = _Plain(path, offset, end)
        else:
            stream = _Gzip(path) if compression == "gzip" else _Zstd(path)
            while offset > 0 and (block := stream.read(min(offset, 1 << 20))):
                offset -= len(block)
    return stream


def refuse_other_bytes(path: str, compression: Compression) -> None:
    """Raises SourceError for a file that begins like UTF-16 or UTF-32 text, or like a compressed file."""
    stream = open_stream(path, compression)
    try:
        mark = stream.read(4)
    finally:
        stream.close()
    for magic, (name, suffix) in _COMPRESSED.items():
        if mark.startswith(magic):
            again = "twice" if compression != "none" else f"with {name}"
            raise SourceError(
                f"{path!r} is compressed {again}",
                hint=f"call it {suffix} if it is compressed once, or decompress it",
            )
    if mark[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise SourceError(
            f"{path!r} is UTF-16", hint="text is read as UTF-8: convert it with iconv -f UTF-16 -t UTF-8"
        )


class _Plain:
    def __init__(self, path: str, offset: int, end: int | None) -> None:
        self._path = path
        self._left = None if end is None else end - offset
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115 — held until close
        self._file.seek(offset)

    def read(self, size: int) -> bytes:
        if self._left is not None:
            size = min(size, self._left)
        with reading(self._path):
            data = self._file.read(size) or b""
        if self._left is not None:
            if not data and self._left > 0:
                raise SourceError(
                    f"{self._path!r} has become shorter while it was read: {self._left} bytes are missing",
                    hint="files must not be cut or rewritten while a job reads them",
                )
            self._left -= len(data)
        return data

    def close(self) -> None:
        self._file.close()


class _Gzip:
    def __init__(self, path: str) -> None:
        self._path = path
        self._file = gzip.open(path, "rb")  # noqa: SIM115 — held until close

    def read(self, size: int) -> bytes:
        with reading(self._path), _whole(self._path, "gzip"):
            return self._file.read(size)

    def close(self) -> None:
        self._file.close()


class _Zstd:
    def __init__(self, path: str) -> None:
        import zstandard

        self._path = path
        self._file = Path(path).open("rb")  # noqa: SIM115 — held until close
        self._zstd = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        self._frame: ZstdDecompressionObj | None = None
        self._ready = b""

    def read(self, size: int) -> bytes:
        parts = [self._ready]
        held = len(self._ready)
        with reading(self._path), _whole(self._path, "zstd"):
            while held < size and (part := self._more()) is not None:
                parts.append(part)
                held += len(part)
        data = b"".join(parts)
        self._ready = data[size:]
        return data[:size]

    def _more(self) -> bytes | None:
        """The decompressed bytes of the next block of the file; None at the end. A file may hold several frames."""
        rest = self._frame.unused_data if self._frame is not None and self._frame.eof else b""
        if rest or self._frame is None or self._frame.eof:
            block = rest or self._file.read(_BLOCK)
            if not block:
                return None
            self._frame = self._zstd.decompressobj()
        else:
            block = self._file.read(_BLOCK)
            if not block:
                raise EOFError
        return self._frame.decompress(block)

    def close(self) -> None:
        self._file.close()


@contextmanager
def _whole(path: str, what: str) -> Generator[None]:
    """Maps the decompressors' exceptions for cut-off and damaged files."""
    try:
        yield
    except EOFError as error:
        raise SourceError(
            f"{path!r} ends in the middle of its {what} data",
            hint="the file is cut off: copy or write it again",
        ) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(
            f"{path!r} is damaged or not {what}: {error}", hint="check the file with gzip -t"
        ) from error
    except Exception as error:
        if type(error).__name__ != "ZstdError":
            raise
        raise SourceError(
            f"{path!r} is damaged or not {what}: {error}", hint="check the file with zstd -t"
        ) from error
