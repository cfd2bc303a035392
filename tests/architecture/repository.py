"""Where things are: the root of the checkout, its settings, the package's folders and files, what git knows."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "streamflow"


@cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def package_folders() -> list[Path]:
    """`streamflow/` and every folder below it, reached through the links."""

    def below(folder: Path) -> Iterator[Path]:
        yield folder
        for child in sorted(folder.iterdir()):
            if child.is_dir() and child.name != "__pycache__":
                yield from below(child)

    return list(below(PACKAGE))


def package_modules() -> list[Path]:
    return [file for folder in package_folders() for file in sorted(folder.glob("*.py"))]


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tracked_files() -> list[Path]:
    """The files that a clone would have, and those about to be committed. Skips the test outside of a checkout."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


class Import(NamedTuple):
    module: str
    line: int


def imports_of(file: Path) -> Iterator[Import]:
    """Every module that a file names in an import, wherever it stands, and in `import_module("…")`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        match node:
            case ast.Import(names=names):
                yield from (Import(alias.name, node.lineno) for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield Import(module, node.lineno)
            case ast.Call(
                func=ast.Attribute(attr="import_module") | ast.Name(id="import_module" | "__import__"),
                args=[ast.Constant(value=str(module)), *_],
            ):
                yield Import(module, node.lineno)
            case _:
                pass
