"""Nothing that is committed names a registry's host, a path of somebody's machine, or a key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT, tracked_files

FORBIDDEN = {
    "a registry's host": "|".join(
        re.escape(host)
        for host in ("pypi.org", "pythonhosted.org", "npmjs.", "crates.io", "proxy.golang.",
                     "repo1.maven.", "repo.maven.")
    ),
    "an index of this machine": r"--(?:extra-)?index-url|--find-links|--trusted-host",
    "a path of somebody's machine": r"(?<![\w.~-])/(?:work|root|home|Users|opt/wheels|tmp/venv)/",
    "a private key": "BEGIN [A-Z ]*PRIVATE KEY",
    "an access token": r"\b(?:AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36}|xox[abp]-[0-9A-Za-z-]{10,})\b",
}  # fmt: skip


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_committed_file_has(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{file.relative_to(ROOT)}:{number}: {match[0]!r}"
        for file in tracked_files()
        if file != Path(__file__).resolve()
        for number, line in enumerate(_lines(file), start=1)
        if (match := pattern.search(line))
    ]
    assert not found, "\n".join(found)


def _lines(file: Path) -> list[str]:
    # A binary file is searched too; what is not text in it cannot match.
    return file.read_bytes().decode("utf-8", errors="replace").splitlines()
