"""`--set key=value`, as often as it is given, as a mapping."""

from __future__ import annotations

from collections.abc import Iterable

from streamflow.errors import ConfigError

__all__ = ["assignments"]


def assignments(texts: Iterable[str]) -> dict[str, str]:
    """Keys to values; the last one counts where a key comes twice. Raises ConfigError for what has no `=`.

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
