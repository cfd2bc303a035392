"""The manifests of `deploy/kubernetes`, read for tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

ROOT: Final = Path(__file__).resolve().parents[3]
FOLDER: Final = ROOT / "deploy" / "kubernetes"
FILES: Final = sorted(path.name for path in FOLDER.glob("*.yaml"))

Manifest = dict[str, Any]


class PodTemplate(NamedTuple):
    """A pod template, and the place where it stands."""

    place: str
    content: Manifest

    @property
    def container(self) -> Manifest:
        (only,) = self.content["spec"]["containers"]
        assert isinstance(only, dict)
        return only

    @property
    def environment(self) -> dict[str, str]:
        return {each["name"]: each["value"] for each in self.container.get("env", ())}


def objects(*files: str) -> list[Manifest]:
    """Everything in these files, or in all."""
    read = ((FOLDER / name).read_text(encoding="utf-8") for name in files or FILES)
    return [each for text in read for each in yaml.safe_load_all(text)]


def pod_templates(*files: str) -> list[PodTemplate]:
    """All pod templates of these files, or of all."""
    return [each for one in objects(*files) for each in _templates(one, one["kind"])]


def _templates(value: object, place: str) -> Iterator[PodTemplate]:
    match value:
        case {"spec": {"containers": [*_]}}:
            yield PodTemplate(place, value)
        case dict():
            for name, each in value.items():
                yield from _templates(each, f"{place}.{name}")
        case list():
            for number, each in enumerate(value):
                yield from _templates(each, f"{place}[{number}]")
        case _:
            pass
