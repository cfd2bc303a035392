"""Every transcript in this folder, at one and two subtasks; those in `wrong/` are wrong on purpose."""

from pathlib import Path

import pytest

from streamflow.testing import run_transcript

FOLDER = Path(__file__).parent
OTHERS = ("patterns", "per_key")
"""Folders of transcripts of another form, with tests of their own."""
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if path.relative_to(FOLDER).parts[0] not in OTHERS)


@pytest.mark.parametrize("parallelism", [1, 2])
@pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(FOLDER).with_suffix("")) for path in FILES])
def test_transcript(path: Path, parallelism: int) -> None:
    run_transcript(path, parallelism=parallelism)


def test_all_of_them_are_found() -> None:
    assert len(FILES) > 50
