"""The package list, the two links, and what stands at the top of the repository."""

from __future__ import annotations

import os
import re

import pytest

from tests.architecture.repository import PACKAGE, ROOT, module_name, package_folders, pyproject

LINKS = {"operators": "../operators", "state": "../state"}

TOP_LEVEL = [
    ".ci/run", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "benchmarks", "deploy",
    "docker-compose.yml", "docs", "examples", "operators", "pyproject.toml", "reliability", "requirements.lock",
    "src", "state", "streamflow", "tests",
]  # fmt: skip


def test_every_folder_with_modules_is_a_package() -> None:
    missing = [
        str(folder.relative_to(ROOT))
        for folder in package_folders()
        if any(folder.glob("*.py")) and not (folder / "__init__.py").exists()
    ]
    assert not missing, f"folders without an __init__.py: {missing}"


def test_the_package_list_is_complete() -> None:
    found = {
        module_name(folder / "__init__.py")
        for folder in package_folders()
        if (folder / "__init__.py").exists()
    }
    listed = pyproject()["tool"]["setuptools"]["packages"]
    missing, gone = sorted(found - set(listed)), sorted(set(listed) - found)
    assert not missing, f"add to tool.setuptools.packages, or the wheel lacks them: {missing}"
    assert not gone, f"in tool.setuptools.packages, but there is no such folder: {gone}"
    assert listed == sorted(listed), "keep tool.setuptools.packages sorted"


def test_package_data_exists() -> None:
    for package, patterns in pyproject()["tool"]["setuptools"]["package-data"].items():
        folder = ROOT.joinpath(*package.split("."))
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package}: nothing matches {pattern!r}"


@pytest.mark.parametrize(("name", "target"), LINKS.items())
def test_a_link_is_relative_and_leads_to_the_top_level_folder(name: str, target: str) -> None:
    link = PACKAGE / name
    assert link.is_symlink(), f"{link} must be a symbolic link (on Windows: git config core.symlinks true)"
    assert str(link.readlink()) == target
    assert link.resolve() == ROOT / name


def test_src_holds_the_package_and_nothing_else() -> None:
    """An editable install puts `src` on the path, so that type checkers and editors find the package, and only that."""
    assert pyproject()["tool"]["setuptools"]["package-dir"] == {"": "src"}
    held = {each.name for each in (ROOT / "src").iterdir() if each.suffix != ".egg-info"}
    assert held == {"streamflow"}
    assert str((ROOT / "src" / "streamflow").readlink()) == "../streamflow"


def test_there_are_no_other_links() -> None:
    links = {folder.name for folder in package_folders() if folder.is_symlink()}
    assert links == set(LINKS)


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_the_top_level_has(name: str) -> None:
    assert (ROOT / name).exists()


def test_ci_can_be_run() -> None:
    for script in ("run", "dist", "find-python"):
        assert os.access(ROOT / ".ci" / script, os.X_OK), f".ci/{script} is not executable"


def test_every_make_target_is_listed_with_a_line() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    described = re.findall(r"^([a-z]+):.*## .+$", makefile, re.MULTILINE)
    assert sorted(phony[1].split()) == sorted(described)
