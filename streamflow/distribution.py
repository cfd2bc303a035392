"""The distribution: its name, its version, and commands that install it.

The name `streamflow` on the package index belongs to another project, so the distribution's name differs from the
import's.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from typing import Final

__all__ = ["DISTRIBUTION", "__version__", "install_hint"]

DISTRIBUTION: Final = "streamflow-engine"
__version__: Final = "0.1.0"
"""The version, written only here."""


def install_hint(extra: str | None = None) -> str:
    """A command that installs the libraries of an extra, or without one those of streamflow itself.

    >>> install_hint("confluent")
    "pip install 'confluent-kafka<3,>=2.16'  (the extra streamflow-engine[confluent])"
    """
    if extra is None:
        return f"{DISTRIBUTION} was installed without its dependencies: install it again, without --no-deps"
    wanted = re.compile(rf"extra == ['\"]{re.escape(extra)}['\"]")
    try:
        requirements = distribution(DISTRIBUTION).requires or []
    except PackageNotFoundError:
        requirements = []
    libraries = [each.partition(";")[0].strip() for each in requirements if wanted.search(each)]
    if not libraries:
        return f"in a clone: pip install '.[{extra}]'"
    shown = " ".join(f"'{library}'" for library in libraries)
    return f"pip install {shown}  (the extra {DISTRIBUTION}[{extra}])"
