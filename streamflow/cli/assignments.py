"""The option `--set key=value`, repeated, as a mapping."""

from __future__ import annotations

from collections.abc import Iterable

from streamflow.errors import ConfigError

__all__ = ["assignments"]


def assignments(texts: Iterable[str]) -> dict[str, str]:
    """Keys to values; of a repeated key the last value counts. Raises ConfigError for a text without `=`.

    >>> assignments(["restart_delay=20ms", "input=a=b.csv"])
    {'restart_delay': '20ms', 'input': 'a=b.csv'}
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(
                f"--set {text!r} is not key=value", hint="write it like --set restart_delay=20ms"
            )
        found[key.strip().replace("-", "_")] = value.strip()
    return found
