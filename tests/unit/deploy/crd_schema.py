"""Validation of manifests by the schema of a custom resource, as strict as `kubectl apply --validate=strict`.

It knows the keywords that Kubernetes allows in such a schema, and refuses to judge by any other.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

_TYPES: Final[dict[str, type | tuple[type, ...]]] = {
    "array": list, "boolean": bool, "integer": int, "number": (int, float), "object": dict, "string": str,
}  # fmt: skip
_JUDGED: Final = {
    "additionalProperties", "anyOf", "default", "enum", "format", "items", "maxLength", "minItems", "minLength",
    "minimum", "nullable", "pattern", "properties", "required", "type", "x-kubernetes-int-or-string",
}  # fmt: skip


@cache
def rayjob() -> dict[str, Any]:
    """The schema of a RayJob: kuberay/README.md says where it is from."""
    packed = Path(__file__).parent / "kuberay" / "rayjob.schema.json.gz"
    schema: dict[str, Any] = json.loads(gzip.decompress(packed.read_bytes()))
    return schema


def within(schema: dict[str, Any], *names: str) -> dict[str, Any]:
    """The schema of a field, by the names of the fields that lead to it."""
    for name in names:
        schema = schema["properties"][name]
    return schema


def mistakes(value: Any, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """Everything in a manifest that its schema does not allow, each with its place."""
    assert schema.keys() <= _JUDGED, f"{place}: nothing here judges {sorted(schema.keys() - _JUDGED)}"
    if value is None:
        if not schema.get("nullable"):
            yield f"{place}: is empty"
        return
    if schema.get("x-kubernetes-int-or-string"):  # `anyOf` says the same once more
        kinds: type | tuple[type, ...] = (int, str)
    else:
        kinds = _TYPES[schema["type"]]
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        yield f"{place}: {value!r} is no {schema.get('type', 'number or text')}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r} is none of {schema['enum']}"
    if isinstance(value, int | float) and value < schema.get("minimum", value):
        yield f"{place}: {value} is less than {schema['minimum']}"
    if isinstance(value, str):
        yield from _text(value, schema, place)
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{place}: has too few items"
        for number, each in enumerate(value):
            yield from mistakes(each, schema["items"], f"{place}[{number}]")
    elif isinstance(value, dict):
        yield from _fields(value, schema, place)


def _text(value: str, schema: dict[str, Any], place: str) -> Iterator[str]:
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{place}: {value!r} does not match {schema['pattern']}"
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
        yield f"{place}: has a wrong length"


def _fields(value: dict[str, Any], schema: dict[str, Any], place: str) -> Iterator[str]:
    yield from (f"{place}.{name}: is missing" for name in schema.get("required", ()) if name not in value)
    known = schema.get("properties", {})
    others = schema.get("additionalProperties")
    if not known and others is None:
        return  # any fields, as the metadata of the whole
    for name, each in value.items():
        if name in known:
            yield from mistakes(each, known[name], f"{place}.{name}")
        elif others is not None:
            yield from mistakes(each, others, f"{place}.{name}")
        else:
            yield f"{place}.{name}: there is no such field"
