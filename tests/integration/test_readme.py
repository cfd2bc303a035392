"""The README's program prints what stands there, and its commands can be typed as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def test_the_program_prints_what_the_readme_shows(tmp_path: Path) -> None:
    text = README.read_text(encoding="utf-8")
    program = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.DOTALL)
    assert program is not None
    source, expected = program.groups()
    ran = subprocess.run(
        [sys.executable, "-c", source],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == expected
    assert len(source.strip().splitlines()) <= 20


def test_what_the_readme_links_to_is_there() -> None:
    text = README.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert links
    missing = [link for link in links if "://" not in link and not (README.parent / link).exists()]
    assert missing == []


def test_the_job_can_be_killed_as_it_stands(tmp_path: Path) -> None:
    """The commands under "Kill it", one after the other in a folder that looks like a clone after `make demo`."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    command = tmp_path / ".venv" / "bin" / "streamflow"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m streamflow "$@"\n')
    command.chmod(0o755)
    section = README.read_text(encoding="utf-8").partition("## Kill it")[2].partition("\n## ")[0]
    block = re.search(r"```console\n(.*?)```", section, re.DOTALL)
    assert block is not None
    steps = re.findall(r"^\$ (.+)\n((?:[^$].*\n)*)", block[1], re.MULTILINE)
    assert len(steps) == 5

    def run(line: str) -> subprocess.CompletedProcess[str]:
        # The seeds are alike to the command: a few of them will do.
        command = ["bash", "-c", line.replace("--seeds 20", "--seeds 2")]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)

    for line, expected in steps:
        done = run(line)
        for _ in range(4):
            if "has no checkpoint" not in done.stderr:
                break
            # On a busy machine it may be killed before its first one.
            run(steps[0][0])
            done = run(line)
        assert done.returncode in ((137, -9) if "KILL" in line else (0,)), f"{line}\n{done.stderr}"
        assert expected in done.stdout, f"{line}\n{done.stdout}"
