"""The façade: explicit imports and `__all__`, nothing else, and light to import."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter

import streamflow
from tests.architecture.repository import PACKAGE

# Each costs start-up time or brings a platform's trouble to programs that never use it.
LOADED_ON_USE = [
    "aiokafka", "cyclopts", "datasketches", "html", "matplotlib", "numpy", "obstore", "prometheus_client", "pyarrow",
    "ray", "rich", "rocksdict", "zstandard",
]  # fmt: skip


def _loaded_by(statement: str) -> set[str]:
    program = f"{statement}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    # -I: neither the caller's environment nor the current folder decides what is imported.
    result = subprocess.run([sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True)
    return set(json.loads(result.stdout))


def _naturally(name: str) -> list[tuple[str, int]]:
    """Int8 before Int16."""
    return [(text, int(number or 0)) for text, number in re.findall(r"(\D+)(\d*)", name)]


def test_every_exported_name_is_there_once() -> None:
    exported = streamflow.__all__
    # In ruff's order (RUF022): constants, types, functions.
    assert list(exported) == sorted(
        exported, key=lambda name: (not name.isupper(), name[0].islower(), _naturally(name))
    )
    assert [name for name, count in Counter(exported).items() if count > 1] == []
    assert [name for name in exported if not hasattr(streamflow, name)] == []


def test_what_the_facade_imports_is_what_it_exports() -> None:
    body = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body
    later = [statement for node in body if isinstance(node, ast.If) for statement in node.body]
    imported = [
        (alias.name, node.module if isinstance(node, ast.ImportFrom) else None)
        for node in [*body, *later]
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert {name for name, _ in imported} - {"importlib", "typing"} == set(streamflow.__all__)
    # A type checker and the interpreter must take what is imported on first use from the same modules.
    on_first_use = {
        alias.name: node.module for node in later if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert on_first_use == {name: f"streamflow.{module}" for name, module in streamflow._LATER.items()}


def test_the_facade_has_no_code() -> None:
    for node in ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body:
        match node:
            case ast.Expr(value=ast.Constant(value=str())) | ast.Import() | ast.ImportFrom():
                pass
            case ast.Assign(targets=[ast.Name(id="__all__" | "_LATER")]):
                pass
            case ast.FunctionDef(name="__dir__"):
                pass
            case ast.If(
                test=ast.Attribute(attr="TYPE_CHECKING"), orelse=[ast.FunctionDef(name="__getattr__")]
            ):
                pass  # hidden from type checkers, which know what is not there
            case _:
                raise AssertionError(f"streamflow/__init__.py:{node.lineno} is neither an import nor __all__")


def test_importing_streamflow_loads_nothing_heavy() -> None:
    loaded = _loaded_by("import streamflow")
    assert "polars" in loaded
    assert not loaded & set(LOADED_ON_USE)
    assert not loaded & {f"streamflow.{module}" for module in streamflow._LATER.values()}
    rooms = ("streamflow.operators.joins", "streamflow.operators.patterns", "streamflow.runners.processes")
    assert not [module for module in loaded if module.startswith(rooms)]


def test_importing_streamflow_takes_nothing_else_of_the_name() -> None:
    loaded = _loaded_by("import streamflow")
    assert not loaded & {"operators", "state"}
