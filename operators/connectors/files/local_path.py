"""Paths as users give them: plain, `~`, `file://`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from streamflow.errors import JobDefinitionError

__all__ = ["local_path"]


def local_path(given: object) -> str:
    """A path on this machine; raises JobDefinitionError for other URLs.

    >>> local_path("file:///data/x%20y.csv"), local_path("in/*.ndjson")
    ('/data/x y.csv', 'in/*.ndjson')
    """
    if not isinstance(given, (str, Path)) or not str(given):
        raise JobDefinitionError(f"{given!r} is not a path", hint='give one, like "flights/*.ndjson"')
    text = str(given)
    if "://" not in text:
        return str(Path(text).expanduser()) if text.startswith("~") else text
    url = urlsplit(text)
    if url.scheme != "file" or url.netloc not in ("", "localhost"):
        raise JobDefinitionError(
            f"{text!r} is not on this machine", hint="files are read and written locally"
        )
    return unquote(url.path)
