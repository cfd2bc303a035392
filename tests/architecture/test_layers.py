"""Imports between layers. The layers themselves are import-linter's contracts, in pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.repository import ROOT, imports_of, module_name, package_modules

# Where a third-party module may be named; also in a function, under TYPE_CHECKING and in import_module("…"),
# the last of which import-linter does not see. An empty tuple: nowhere yet.
CONFINED: dict[str, tuple[str, ...]] = {
    "aiokafka": ("streamflow.operators.connectors.kafka",),
    "cramjam": ("streamflow.operators.connectors.kafka",),
    "confluent_kafka": ("streamflow.operators.connectors.kafka",),
    "cyclopts": ("streamflow.cli",),
    "datasketches": ("streamflow.windows",),
    "fastavro": ("streamflow.operators.connectors.kafka",),
    "httpx": ("streamflow.operators.connectors.kafka",),
    "prometheus_client": ("streamflow.observe.prometheus",),
    "ray": ("streamflow.runners.ray.cluster",),
    "pyarrow": ("streamflow.runtime.transport.columns",),
    "rich": ("streamflow.cli", "streamflow.demo"),
    "rocksdict": ("streamflow.state.backends.rocksdb",),
}

# They are written the way a user writes: through the façade.
USERS_OF_THE_FACADE = ("streamflow.demo",)


def test_import_linter_keeps_every_contract() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, f"\n{result.stdout}{result.stderr}"


def test_import_linter_sees_the_linked_packages() -> None:
    grimp = pytest.importorskip("grimp")
    modules = grimp.build_graph("streamflow", cache_dir=None).modules
    unseen = {module_name(file) for file in package_modules()} - modules
    assert not unseen, "import-linter checks nothing in these"


def test_third_party_modules_are_imported_where_they_belong() -> None:
    astray = [
        f"{file.relative_to(ROOT)}:{line}: {module} belongs in {' or '.join(CONFINED[root]) or 'no module yet'}"
        for file in package_modules()
        for module, line in imports_of(file)
        if (root := module.partition(".")[0]) in CONFINED and not _within(module_name(file), CONFINED[root])
    ]
    assert not astray, "\n".join(astray)


def test_no_module_imports_the_facade() -> None:
    """It imports nearly everything: whoever imports it has no layer left."""
    astray = [
        f"{file.relative_to(ROOT)}:{line}"
        for file in package_modules()
        for module, line in imports_of(file)
        if module == "streamflow" and not _within(module_name(file), USERS_OF_THE_FACADE)
    ]
    assert not astray, f"import the module that defines the name: {astray}"


def test_nothing_is_imported_by_its_folder() -> None:
    """`import operators` works where the checkout is on sys.path and makes a second copy of every module in it."""
    python = [*package_modules(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
    astray = [
        f"{file.relative_to(ROOT)}:{line}: write streamflow.{module}"
        for file in python
        for module, line in imports_of(file)
        if module.partition(".")[0] in {"operators", "state"}
    ]
    assert not astray, "\n".join(astray)


def _within(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
