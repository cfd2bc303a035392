"""One concept per file, and a name that says which."""

from __future__ import annotations

from tests.architecture.repository import ROOT, package_modules

MOST_LINES = 600
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


def test_no_module_is_too_long() -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in package_modules()}
    assert lengths
    too_long = {
        str(file.relative_to(ROOT)): length for file, length in lengths.items() if length > MOST_LINES
    }
    assert not too_long, f"look for the second concept in {too_long}"


def test_every_name_says_what_the_file_holds() -> None:
    nameless = [str(file.relative_to(ROOT)) for file in package_modules() if file.stem in SAYS_NOTHING]
    nameless += [
        str(file.parent.relative_to(ROOT)) for file in package_modules() if file.parent.name in SAYS_NOTHING
    ]
    assert not nameless


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(file.relative_to(ROOT))
        for file in package_modules()
        if not file.read_text(encoding="utf-8").startswith(('"""', 'r"""'))
    ]
    assert not silent, f"no docstring at the top of {silent}"
