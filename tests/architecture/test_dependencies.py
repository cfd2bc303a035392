"""Declared, imported and locked packages are the same."""

from __future__ import annotations

import re
import sys
from functools import cache
from importlib.metadata import packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.architecture.repository import ROOT, imports_of, package_modules, pyproject

USERS, BUILD, TESTS, DEVELOPERS = LOCKS = [
    "requirements.lock",
    "requirements-build.lock",
    "requirements-test.lock",
    "requirements-dev.lock",
]


def _core() -> list[str]:
    return pyproject()["project"]["dependencies"]


def _extras() -> list[str]:
    return [each for extra in pyproject()["project"]["optional-dependencies"].values() for each in extra]


RAY = "ray"
"""The package that developers have, and users who ask for it; tests without it are most."""


def _by_name(requirements: list[str]) -> dict[str, Requirement]:
    return {
        canonicalize_name(requirement.name): requirement for requirement in map(Requirement, requirements)
    }


@cache
def _locked(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE))


def test_what_is_imported_is_declared_and_nothing_else() -> None:
    imported = {module.partition(".")[0] for file in package_modules() for module, _ in imports_of(file)}
    # `streamflow bench` loads the checkout's benchmarks where there is a checkout.
    third_party = imported - set(sys.stdlib_module_names) - {"streamflow", "benchmarks"}
    distributions = packages_distributions()
    if RAY not in distributions:
        distributions = {**distributions, RAY: [RAY]}
    unknown = sorted(module for module in third_party if module not in distributions)
    assert not unknown, f"imported, but installed by no package: {unknown}"
    needed = {canonicalize_name(distributions[module][0]) for module in third_party}
    declared = set(_by_name([*_core(), *_extras()]))
    assert not needed - declared, f"imported, but not in pyproject.toml: {sorted(needed - declared)}"
    assert not declared - needed, f"in pyproject.toml, but imported nowhere: {sorted(declared - needed)}"


@pytest.mark.parametrize("requirement", [*_core(), *_extras()])
def test_a_dependency_has_both_bounds(requirement: str) -> None:
    operators = {specifier.operator for specifier in Requirement(requirement).specifier}
    assert ">=" in operators
    assert "<" in operators


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_version_has_hashes(lock: str) -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text(encoding="utf-8"))
    packages = [entry for entry in entries if not entry.startswith("#")]
    assert packages
    for entry in packages:
        assert re.match(r"[a-z0-9-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_lock_satisfies_the_bounds() -> None:
    locks = (
        dict.fromkeys(_by_name(_core()), USERS)
        | dict.fromkeys(_by_name(_extras()), TESTS)
        | {RAY: DEVELOPERS}
    )
    for name, requirement in _by_name([*_core(), *_extras()]).items():
        version = _locked(locks[name]).get(name)
        assert version is not None, f"{name} is not in {locks[name]}: make lock"
        assert requirement.specifier.contains(version), f"{name}=={version} is locked: make lock"


def test_developers_have_the_versions_that_users_have() -> None:
    for lock in (USERS, BUILD, TESTS):
        for name, version in _locked(lock).items():
            assert _locked(DEVELOPERS).get(name) == version, f"{name}: make lock"
