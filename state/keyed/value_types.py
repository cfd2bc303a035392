"""The types that keyed state can hold: the checking, storing and reading of values, and the names of types.

Values are stored by `core.serde.pack`, msgpack with a fixed allow-list; a dataclass or NamedTuple is a map from field
name to value. So stored state is readable without the program's classes, reading it can make nothing but plain
values, and a field that was added later is simply missing.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import Any, Final, Literal, cast
from uuid import UUID

import msgpack  # type: ignore[import-untyped]

from streamflow.core.serde import pack, unpack
from streamflow.errors import JobDefinitionError, RecordError, StateError, cut, represented

__all__ = ["ValueType", "value_type"]

Convert = Callable[[Any], Any]

_msgpack: Any = msgpack
_SCALARS: Final[Mapping[object, str]] = {
    str: "str",
    int: "int",
    float: "float",
    bool: "bool",
    bytes: "bytes",
    datetime: "datetime",
    date: "date",
    time: "time",
    timedelta: "timedelta",
    Decimal: "Decimal",
    UUID: "UUID",
    types.NoneType: "None",
}
_FAST: Final = (str, int, float, bool, bytes)
_HINT: Final = (
    "use str, int, float, bool, bytes, datetime, date, time, timedelta, Decimal, UUID, a dataclass, TypedDict or "
    "NamedTuple of those, list, dict, tuple, or Any"
)


@dataclass(frozen=True, slots=True)
class ValueType:
    """One type. `signature` is plain data, the same for the same type in every run; `dump` and `load` turn a value
    into plain ones and back (None: it is one already); `kinds` are the classes of its values (none: any). `mutable`:
    a value can change in place, so reading it may be a change."""

    signature: Any
    kinds: frozenset[type] = frozenset()
    mutable: bool = False
    dump: Convert | None = None
    load: Convert | None = None

    @property
    def only_kind(self) -> type | None:
        """The class of all its values, if there is one."""
        return next(iter(self.kinds)) if len(self.kinds) == 1 else None

    def checked(self, value: Any, what: str) -> Any:
        """The value, if it is of this type (its fields and elements are checked when it is stored); a float accepts
        an int.

        Raises RecordError that names `what`.
        """
        if not self.kinds or type(value) in self.kinds:
            return value
        if float in self.kinds and type(value) is int:
            return float(value)
        raise RecordError(
            f"{what} holds {shown(self.signature)}, not {type(value).__name__}: {cut(represented(value), 60)}",
            record=value,
            hint="convert the value, or declare the state with another type",
        )

    def encoder(self, *, key: bool = False) -> Callable[[Any], bytes]:
        """A function from value to bytes, for one thread. With `key` equal times have the same bytes, whatever their
        zones are."""
        if self.dump is None and self.only_kind in _FAST:
            # A packer of one's own takes a tenth of the time, and for these types writes the same bytes.
            fast: Callable[[Any], bytes] = _msgpack.Packer(use_bin_type=True, strict_types=True).pack
            if self.only_kind is not int:
                return fast

            def encode_int(value: Any) -> bytes:
                return fast(value) if -(2**63) <= value < 2**63 else pack(value)

            return encode_int
        dump = self.dump
        if key:
            return lambda value: pack(value if dump is None else dump(value), zones=False)
        return pack if dump is None else lambda value: pack(dump(value))

    @property
    def comes_back_the_same(self) -> bool:
        """Whether a key read from its bytes is identical in type to the original, not only equal."""
        return self.dump is None and self.only_kind in _FAST

    def decoder(self) -> Callable[[bytes], Any]:
        """A function from those bytes to the value; raises StateError for others."""
        load, kind = self.load, self.only_kind
        if load is None:
            if kind not in _FAST:
                return unpack
            unpackb = _msgpack.unpackb

            def decode_scalar(data: bytes) -> Any:
                try:
                    value = unpackb(data)
                except Exception:  # noqa: BLE001 — the careful reader says what is wrong
                    return unpack(data)
                return value if type(value) is kind else unpack(data)

            return decode_scalar

        def decode(data: bytes) -> Any:
            try:
                return load(unpack(data))
            except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
                raise StateError(
                    f"a stored value is not {shown(self.signature)}: {error}",
                    hint="restore with the program that wrote it, or drop this operator's state",
                ) from error

        return decode


def shown(signature: Any) -> str:
    """A type's signature as people write it.

    >>> shown(value_type(dict[str, list[int]]).signature)
    'dict[str, list[int]]'
    """
    match signature:
        case str():
            return signature
        case {"record": fields}:
            return f"a record of {', '.join(cast('Mapping[str, Any]', fields))}"
        case ["optional", inner]:
            return f"{shown(inner)} | None"
        case [str(name), *inner]:
            return f"{name}[{', '.join(shown(each) for each in inner)}]"
        case _:
            return repr(signature)


def value_type(annotation: Any) -> ValueType:
    """The type that an annotation stands for; raises JobDefinitionError for a type that state cannot hold.

    >>> value_type(float).signature, value_type(list[int] | None).signature
    ('float', ['optional', ['list', 'int']])
    """
    try:
        return _compiled(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return _compile(annotation, ())


@cache
def _compiled(annotation: Any) -> ValueType:
    return _compile(annotation, ())


def _compile(annotation: Any, outer: tuple[Any, ...]) -> ValueType:
    if annotation is None:
        annotation = types.NoneType
    if annotation in _SCALARS:
        return ValueType(_SCALARS[annotation], frozenset({annotation}))
    if annotation is Any or annotation is object:
        return ValueType("any", mutable=True)
    if annotation in (list, dict, tuple):
        return ValueType([annotation.__name__, "any"], frozenset({annotation}), mutable=True)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _union([_compile(each, outer) for each in arguments], annotation)
    if origin is Literal:
        return _union([_compile(each, outer) for each in dict.fromkeys(map(type, arguments))], annotation)
    if origin is list:
        return _list(_compile(arguments[0], outer))
    if origin is dict:
        return _dict(_compile(arguments[0], outer), _compile(arguments[1], outer))
    if origin is tuple:
        return _tuple(arguments, outer)
    record = origin or annotation
    if any(record is each for each in outer):
        raise JobDefinitionError(f"state cannot hold {_name(record)}, which contains itself", hint=_HINT)
    if dataclasses.is_dataclass(record) or typing.is_typeddict(record) or hasattr(record, "_fields"):
        return _record(record, (*outer, record))
    raise JobDefinitionError(f"state cannot hold {_name(annotation)}", hint=_HINT)


def _name(annotation: Any) -> str:
    return str(getattr(annotation, "__name__", annotation))


def _union(members: list[ValueType], annotation: Any) -> ValueType:
    rest = [member for member in members if member.signature != "None"]
    kinds: frozenset[type] = frozenset(kind for member in members for kind in member.kinds)
    mutable = any(member.mutable for member in members)
    if any(not member.kinds for member in members):
        return ValueType("any", mutable=True)
    if len(rest) == 1 and len(members) > 1:
        [inner] = rest
        return ValueType(
            ["optional", inner.signature], kinds, mutable, _unless_none(inner.dump), _unless_none(inner.load)
        )
    if any(member.dump or member.load for member in rest):
        raise JobDefinitionError(
            f"state cannot hold {annotation}, since stored values do not say which of the types they are",
            hint="choose one type, or one dataclass with optional fields",
        )
    if len(members) == 1:
        return members[0]
    return ValueType(["union", *sorted((member.signature for member in members), key=repr)], kinds, mutable)


def _unless_none(convert: Convert | None) -> Convert | None:
    return None if convert is None else lambda value: None if value is None else convert(value)


def _list(inner: ValueType) -> ValueType:
    dump, load = inner.dump, inner.load
    return ValueType(
        ["list", inner.signature],
        frozenset({list}),
        True,
        None if dump is None else lambda value: [dump(each) for each in value],
        None if load is None else lambda value: [load(each) for each in value],
    )


def _dict(key: ValueType, inner: ValueType) -> ValueType:
    dump_key, dump = key.dump or _same, inner.dump or _same
    load_key, load = key.load or _same, inner.load or _same
    return ValueType(
        ["dict", key.signature, inner.signature],
        frozenset({dict}),
        True,
        None
        if dump_key is _same and dump is _same
        else lambda value: {dump_key(k): dump(v) for k, v in value.items()},
        None
        if load_key is _same and load is _same
        else lambda value: {load_key(k): load(v) for k, v in value.items()},
    )


def _same(value: Any) -> Any:
    return value


def _tuple(arguments: tuple[Any, ...], outer: tuple[Any, ...]) -> ValueType:
    endless = len(arguments) == 2 and arguments[1] is Ellipsis
    inner = [_compile(each, outer) for each in (arguments[:1] if endless else arguments)]
    signature = ["tuple", *(each.signature for each in inner), *(["..."] if endless else [])]
    dumps, loads = [each.dump for each in inner], [each.load for each in inner]

    def converted(converts: list[Convert | None]) -> Convert | None:
        if not any(converts):
            return None
        each = [convert or _same for convert in converts]
        if endless:
            return lambda value: tuple(each[0](item) for item in value)
        return lambda value: tuple(convert(item) for convert, item in zip(each, value, strict=True))

    mutable = any(each.mutable for each in inner)
    return ValueType(signature, frozenset({tuple}), mutable, converted(dumps), converted(loads))


def _record(record: Any, outer: tuple[Any, ...]) -> ValueType:
    """The type of a dataclass, TypedDict or NamedTuple."""
    hints = typing.get_type_hints(record)
    if dataclasses.is_dataclass(record):
        stored = [field for field in dataclasses.fields(record) if field.init]
        names = [field.name for field in stored]
        missing = dataclasses.MISSING
        defaults = [
            field.name
            for field in stored
            if field.default is not missing or field.default_factory is not missing
        ]
        frozen = bool(getattr(record, "__dataclass_params__").frozen)  # noqa: B009 — the stub does not know it
        kind: type = cast("type", record)
    elif typing.is_typeddict(record):
        names = list(hints)
        defaults = sorted(record.__optional_keys__)
        frozen, kind = False, dict
    else:
        names = list(record._fields)
        defaults = list(record._field_defaults)
        frozen, kind = True, record
    fields = {name: _compile(_bare(hints.get(name, Any)), outer) for name in names}
    signature = {
        "record": {name: field.signature for name, field in fields.items()},
        "defaults": sorted(defaults),
    }
    mutable = not frozen or any(field.mutable for field in fields.values())
    dumps = [(name, fields[name].dump or _same) for name in names]
    loads = {name: field.load for name, field in fields.items() if field.load is not None}

    def known(value: Mapping[str, Any]) -> dict[str, Any]:
        entries = {name: entry for name, entry in value.items() if name in fields}
        for name, load in loads.items():
            if name in entries:
                entries[name] = load(entries[name])
        return entries

    if kind is dict:
        changing = {name: field.dump for name, field in fields.items() if field.dump is not None}
        return ValueType(
            signature,
            frozenset({dict}),
            mutable,
            None
            if not changing
            else lambda value: {
                name: changing[name](entry) if name in changing else entry for name, entry in value.items()
            },
            known if loads else None,
        )
    return ValueType(
        signature,
        frozenset({kind}),
        mutable,
        lambda value: {name: dump(getattr(value, name)) for name, dump in dumps},
        lambda value: kind(**known(value)),
    )


def _bare(hint: Any) -> Any:
    """The annotation of a TypedDict's field without Required, NotRequired or ReadOnly around it."""
    origin = typing.get_origin(hint)
    return typing.get_args(hint)[0] if origin in (typing.Required, typing.NotRequired) else hint
