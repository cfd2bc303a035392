"""Asks the job of this pod how it is, for the kubelet: exit code 0 means that `/healthz` or `/readyz` answered 200.

    python probe.py healthz
    python probe.py readyz
    python probe.py healthz --unless-absent    where the job may not have begun: no answer is no failure

The port and its token come from the job's own variables, STREAMFLOW_METRICS_PORT and STREAMFLOW_METRICS_TOKEN: a probe
of the kubelet itself would have to have the token in the manifest.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

SECONDS = 5.0


def ask(url: str, token: str | None, *, absent: bool = False) -> str | None:
    """The reason for which that address does not answer 200; None if it does, or if it may be absent, and is."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        with urlopen(Request(url, headers=headers), timeout=SECONDS):
            return None
    except HTTPError as error:
        return f"{error.code}: {error.read(4096).decode(errors='replace')}"
    except OSError as error:
        nobody = isinstance(error, URLError) and isinstance(error.reason, ConnectionRefusedError)
        return None if absent and nobody else f"no answer: {error}"


def token_of(environ: Mapping[str, str]) -> str | None:
    """The job's token for its metrics port, read from its file if the variable names one."""
    value = environ.get("STREAMFLOW_METRICS_TOKEN")
    if value and value.startswith("file:"):
        return Path(value.removeprefix("file:")).read_text(encoding="utf-8").strip()
    return value


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """The exit code of the probe that the arguments ask for; the reason of a failure goes to stderr."""
    route, *flags = arguments
    url = f"http://127.0.0.1:{environ['STREAMFLOW_METRICS_PORT']}/{route}"
    if (trouble := ask(url, token_of(environ), absent=flags == ["--unless-absent"])) is not None:
        print(f"{route}: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
