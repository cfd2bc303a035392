"""Users' functions: those that a place accepts, and the rows that they see.

On a stream with columns a function sees a row: a dict, or the dataclass or NamedTuple that its parameter is annotated
with, however many columns there are. On a stream of objects it sees the object. A function that cannot work in its
place (a coroutine function for `map`, a plain one for `map_async`, one without parameters) is refused when the job is
built.
"""

# Values of any type: what they hold is not known to the type checker.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import dataclasses
import datetime as dt
import dis
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableSequence, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal, cast

import polars as pl

from streamflow.core.schema import Schema, StreamSchema
from streamflow.errors import JobDefinitionError, Where, cut, unknown_name
from streamflow.user_code import line_of_definition

__all__ = [
    "RowMaker",
    "alone",
    "annotations_of",
    "as_record",
    "check_action",
    "check_function",
    "check_gives",
    "is_row_class",
    "on_rows",
    "row_maker",
    "silent",
    "unfit_results",
    "value_maker",
]

Kind = Literal["plain", "generator", "coroutine"]
"""The functions that a place can call: one that returns; one that may also yield; one that is awaited."""

RowMaker = Callable[[dict[str, Any]], Any]

_POSITIONAL: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_function(function: object, what: str, kind: Kind = "plain", *, arguments: int = 1) -> None:
    """Raises JobDefinitionError, with the function's line, for a function that `what` cannot call.

    >>> async def delay(row): ...
    >>> check_function(delay, "map")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    streamflow.errors.JobDefinitionError: ...map got delay, a coroutine function; use map_async, which awaits it
    """
    if not callable(function):
        raise JobDefinitionError(f"{what} got {function!r}, which is no function")
    found = _kind_of(function)
    if kind == "coroutine":
        # Functions that return an awaitable cannot always be told from outside; those that surely do not can.
        if found != "coroutine" and (found is not None or _plainly_written(function)):
            raise _refused(
                function, what, found or "plain function", _AWAITED.get(what, "write it async def")
            )
    elif found == "coroutine":
        raise _refused(function, what, "coroutine function", _INSTEAD.get(what, "write it without async"))
    elif found is not None and (found != "generator function" or kind != "generator"):
        hint = (
            "use flat_map, which takes the records that it yields"
            if what == "map"
            else "write it with return"
        )
        raise _refused(function, what, found, hint)
    try:
        inspect.signature(function).bind(*[None] * arguments)
    except TypeError as error:
        takes = "one argument, the record" if arguments == 1 else f"{arguments} arguments"
        raise _refused(function, what, f"which cannot be called with {takes}: {error}", "") from error
    except ValueError:
        return  # some callables that are not written in Python do not tell


_AWAITED: Final = {
    "map_async": "write it async def, or use map, which calls it",
    "sink": "write it async def f(rows): …",
}
_INSTEAD: Final = {
    "map": "use map_async, which awaits it",
    "filter": "ask with map_async, and filter by the answer",
    "flat_map": "use map_async, which awaits it, and flat_map behind it",
}


def check_action(function: object, what: str, *, arguments: int) -> None:
    """Checks a function called for its effect: like `check_function`, and refuses one that returns a value.

    >>> class Process:
    ...     def on_event(self, event, ctx):
    ...         return {"n": 1}
    >>> check_action(Process().on_event, "process", arguments=2)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    streamflow.errors.JobDefinitionError: ...process got on_event, which returns a value that would be lost...
    """
    check_function(function, what, arguments=arguments)
    if "a value" in _returns(function):
        raise _refused(
            function,
            what,
            "which returns a value that would be lost",
            "use ctx.emit(…), which puts it out",
        )


def silent(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """The action, made to raise if it returns a value after all; itself if it surely returns none."""
    if _returns(function) <= {"nothing"}:
        return function

    def checked(*arguments: Any) -> None:
        result = function(*arguments)
        if result is not None:
            unfit_results([result])
            raise TypeError(
                f"{what} returned a {type(result).__name__}, which would be lost; use ctx.emit(…)"
            )

    return checked


def _returns(function: object) -> frozenset[str]:
    """The kind of a Python function's result, as far as its code says: "a value", "nothing", "what a call gives"
    (which may be either); empty for one that always raises. A function that is not written in Python may return
    anything."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return frozenset({"what a call gives"}) if code is None else _results_of(code)


@functools.lru_cache(maxsize=1_024)
def _results_of(code: types.CodeType) -> frozenset[str]:
    """`_returns` for code, which each subtask of an operator asks for again."""
    found: set[str] = set()
    before: dis.Instruction | None = None
    for instruction in dis.get_instructions(code):
        returned = instruction if instruction.opname == "RETURN_CONST" else before
        if instruction.opname.startswith("RETURN_") and "GENERATOR" not in instruction.opname and returned:
            if returned.opname.startswith("CALL") or instruction.is_jump_target:
                found.add("what a call gives")
            else:
                constant = returned.opname in ("LOAD_CONST", "RETURN_CONST")
                found.add("nothing" if constant and returned.argval is None else "a value")
        before = instruction
    return frozenset(found)


def check_gives(function: object, what: str, kind: Kind = "plain", *, arguments: int = 1) -> None:
    """Checks a function called for its result: like `check_function`, and refuses one without `return`.

    >>> def double(row):
    ...     row["n"] * 2
    >>> check_gives(double, "map")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    streamflow.errors.JobDefinitionError: ...map got double, which returns nothing; return the result for the record
    """
    check_function(function, what, kind, arguments=arguments)
    written = getattr(function, "__name__", "<lambda>") != "<lambda>" and _kind_of(function) is None
    if written and _returns(function) == frozenset({"nothing"}):
        raise _refused(function, what, "which returns nothing", "return the result for the record")


def on_rows(
    function: Callable[..., Any], schema: StreamSchema, what: str, *, arguments: int = 1
) -> Callable[..., Any]:
    """The function as called with records of a stream: each of its first `arguments` is converted to its parameter's
    class.

    The function itself if nothing has to be converted.
    """
    makers = [row_maker(function, schema, what, position) for position in range(arguments)]
    if all(maker is None for maker in makers):
        return function
    if arguments == 1:
        (make,) = cast("list[RowMaker]", makers)

        @functools.wraps(function, updated=())
        def on_row(row: dict[str, Any]) -> Any:
            return function(make(row))

        return on_row

    @functools.wraps(function, updated=())
    def on_all(*rows: Any) -> Any:
        return function(*(row if make is None else make(row) for make, row in zip(makers, rows, strict=True)))

    return on_all


def as_record(value: Any) -> Any:
    """A dataclass or named tuple as the dict of its fields; any other value unchanged."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    named: Any = value
    return named._asdict() if isinstance(value, tuple) and hasattr(named, "_asdict") else value


def unfit_results(results: Sequence[Any]) -> dict[int, str]:
    """Error texts, by position, for results that only promise one: coroutines, generators and other iterators."""
    kinds = {kind: why for kind in set(map(type, results)) if (why := _promise(kind)) is not None}
    if not kinds:
        return {}
    unfit = {index: kinds[type(result)] for index, result in enumerate(results) if type(result) in kinds}
    for index in unfit:
        if inspect.iscoroutine(results[index]):
            results[index].close()  # or Python would warn about a coroutine never awaited
    return unfit


def _promise(kind: type) -> str | None:
    if kind is types.GeneratorType:
        return (
            "it gave a generator; return the record, or use flat_map, which takes the records that it yields"
        )
    if kind is types.AsyncGeneratorType:
        return "it gave an asynchronous generator, which is not iterated here"
    if hasattr(kind, "__await__"):
        return f"it gave a {kind.__name__}, which is not awaited here; use map_async"
    if issubclass(kind, Iterator):
        return f"it gave a {kind.__name__}, which can be read once; return a list, or use flat_map"
    return None


def row_maker(
    function: Callable[..., Any], schema: StreamSchema, what: str, position: int = 0
) -> RowMaker | None:
    """The function from a row's dict to the class that a function's parameter is annotated with; None if that is a
    dict, too.

    Raises JobDefinitionError for a class that the stream's columns cannot fill, and for an annotation that is no row.
    """
    if not isinstance(schema, Schema):
        return None
    annotation = _parameter(function, position)
    if not _may_be_a_row(annotation):
        name = getattr(annotation, "__name__", str(annotation))
        raise _refused(
            function,
            what,
            f"whose parameter is annotated as {name}: a function sees a row, also of one column",
            f"take a dict, and row[{next(iter(schema), 'value')!r}] of it, or a dataclass or NamedTuple",
        )
    try:
        return as_row_maker(annotation, schema)
    except JobDefinitionError as error:
        error.at(Where(code=line_of_definition(function)))
        raise


def value_maker(
    function: Callable[..., Any], dtype: pl.DataType, position: int
) -> Callable[[Any], Any] | None:
    """The function from a value of this type (a struct, or a list of them) to the class that a function's parameter
    is annotated with; None if the value stays as it is. Raises JobDefinitionError for a class that the struct's
    fields cannot fill."""
    annotation = _parameter(function, position)
    if isinstance(dtype, pl.Struct):
        return as_row_maker(annotation, Schema({field.name: field.dtype for field in dtype.fields}))
    return _nested(annotation) if isinstance(dtype, pl.List) else None


def as_row_maker(annotation: Any, schema: Schema) -> RowMaker | None:
    """The function from a row's dict to an instance of a dataclass or NamedTuple; None for any other annotation."""
    cls = alone(annotation)
    if not is_row_class(cls):
        return None
    _check_fields(cls, schema, "a row")
    return None if typing.is_typeddict(cls) else _maker(cls)


def _check_fields(cls: Any, columns: Mapping[str, pl.DataType], what: str) -> None:
    """Raises JobDefinitionError if the columns cannot fill the fields of a row's class, or those of a class in it."""
    hints = annotations_of(cls)
    for name, needed in (_fields_of(cls) or {}).items():
        if name in columns:
            _check_field(hints.get(name), columns[name], f"column {name!r}", cls)
        elif needed:
            message, hint = unknown_name("column" if what == "a row" else "field", name, columns)
            raise JobDefinitionError(f"{what} should become a {cls.__name__}: {message}", hint=hint)


def _check_field(annotation: Any, dtype: pl.DataType, what: str, cls: Any) -> None:
    annotation = alone(annotation)
    if isinstance(dtype, (pl.List, pl.Array)) and (elements := _elements(annotation)) is not None:
        _check_field(elements, cast("pl.DataType", dtype.inner), f"the content of {what}", cls)
    elif is_row_class(annotation) and isinstance(dtype, pl.Struct):
        _check_fields(
            annotation, {field.name: cast("pl.DataType", field.dtype) for field in dtype.fields}, what
        )
    elif not dtype.is_(pl.Null()) and not _FITS.get(annotation, _anything)(dtype):
        raise JobDefinitionError(
            f"a row should become a {cls.__name__}, which takes {annotation.__name__}, and {what} is {dtype}",
            hint="annotate the field with the column's type, or cast the column before",
        )


def _anything(dtype: pl.DataType) -> bool:
    return True


_FITS: Final[Mapping[Any, Callable[[pl.DataType], bool]]] = {
    str: lambda dtype: isinstance(dtype, (pl.String, pl.Categorical, pl.Enum)),
    int: lambda dtype: dtype.is_integer(),
    float: lambda dtype: dtype.is_float() or dtype.is_integer(),
    bool: lambda dtype: isinstance(dtype, pl.Boolean),
    bytes: lambda dtype: isinstance(dtype, pl.Binary),
    Decimal: lambda dtype: isinstance(dtype, pl.Decimal),
    dt.datetime: lambda dtype: isinstance(dtype, pl.Datetime),
    dt.date: lambda dtype: isinstance(dtype, (pl.Date, pl.Datetime)),
    dt.time: lambda dtype: isinstance(dtype, pl.Time),
    dt.timedelta: lambda dtype: isinstance(dtype, pl.Duration),
}
"""Annotation → the column types that a field so annotated accepts; other annotations accept any."""


def annotations_of(function: object) -> Mapping[str, Any]:
    """A function's annotations by parameter (and `return`), also those of a class that only its caller knows. Empty
    if one of them cannot be found."""
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    if not inspect.isroutine(target) and not inspect.isclass(target):
        target = getattr(type(target), "__call__", target)  # noqa: B004 — its own method has the annotations
    try:
        return typing.get_type_hints(target)
    except NameError:
        try:
            return typing.get_type_hints(target, localns=_callers_names())
        except (NameError, TypeError, AttributeError):
            return {}
    except (TypeError, AttributeError):
        return {}


def _callers_names() -> dict[str, Any]:
    """The names of the functions that are running: a class may be written in one of them."""
    names: dict[str, Any] = {}
    frame: types.FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        for name, value in frame.f_locals.items():
            names.setdefault(name, value)
        frame = frame.f_back
    return names


def _parameter(function: Callable[..., Any], position: int) -> Any:
    """The annotation of the parameter at this position; None if there is none."""
    try:
        parameters = [
            name for name, p in inspect.signature(function).parameters.items() if p.kind in _POSITIONAL
        ]
    except (TypeError, ValueError):
        return None
    return annotations_of(function).get(parameters[position]) if position < len(parameters) else None


def alone(annotation: Any) -> Any:
    """The annotation without `| None`: of `Row | None` the `Row`, of `Row[int]`, too."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        rest = [each for each in typing.get_args(annotation) if each is not type(None)]
        return alone(rest[0]) if len(rest) == 1 else annotation
    origin = typing.get_origin(annotation)
    return origin if is_row_class(origin) else annotation


def _may_be_a_row(annotation: Any) -> bool:
    """Whether a parameter annotated so can take a dict, or an object made of one."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [each for each in typing.get_args(annotation) if each is not type(None)]
        # Nothing says which of several classes to make.
        made = len(members) > 1
        return any(
            _may_be_a_row(each) and not (made and is_row_class(each) and not typing.is_typeddict(each))
            for each in members
        )
    found: object = typing.get_origin(annotation) or annotation
    if found is Any or not isinstance(found, type):
        return True
    cls: type = found
    return (
        is_row_class(cls)
        or getattr(cls, "_is_protocol", False)
        or issubclass(dict, cls)
        or issubclass(cls, dict)
    )


def is_row_class(cls: Any) -> bool:
    """Whether `cls` is a class of rows: a dataclass, TypedDict or NamedTuple."""
    return _fields_of(cls) is not None


def _fields_of(cls: Any) -> dict[str, bool] | None:
    """The fields of a row's class, and whether each is required; None for any other class."""
    if not isinstance(cls, type):
        return None
    if dataclasses.is_dataclass(cls):
        return {
            field.name: field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            for field in dataclasses.fields(cls)
            if field.init
        }
    if typing.is_typeddict(cls):
        required: frozenset[str] = cls.__required_keys__  # type: ignore[attr-defined]
        return {name: name in required for name in cls.__annotations__}
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        named: Any = cls
        return {name: name not in named._field_defaults for name in named._fields}
    return None


def _maker(cls: Any) -> RowMaker:
    fields = tuple(_fields_of(cls) or ())
    hints = annotations_of(cls)
    nested = {name: inner for name in fields if (inner := _nested(hints.get(name))) is not None}

    def make(row: dict[str, Any]) -> Any:
        given = {name: row[name] for name in fields if name in row}
        for name, inner in nested.items():
            if given.get(name) is not None:
                given[name] = inner(given[name])
        try:
            return cls(**given)
        except TypeError as error:
            raise TypeError(f"no {cls.__name__} can be made of the row: {error}") from error

    return make


def _nested(annotation: Any) -> Callable[[Any], Any] | None:
    """The function that makes the value of a field: a class of its own, a member of an Enum by its value, or a list
    or tuple of them."""
    annotation = alone(annotation)
    elements = _elements(annotation)
    if elements is not None:
        inner = _nested(elements)
        if inner is None:
            return None
        made: type = tuple if typing.get_origin(annotation) is tuple else list
        return lambda values: made([None if value is None else inner(value) for value in values])
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return annotation
    if not is_row_class(annotation) or typing.is_typeddict(annotation):
        return None
    return _maker(annotation)


def _elements(annotation: Any) -> Any:
    """The element annotation of a list, or of a tuple of any length; None for anything else."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return arguments[0] if len(arguments) == 2 and arguments[1] is Ellipsis else None
    return arguments[0] if origin in _LISTS and arguments else None


_LISTS: Final = (list, Sequence, Collection, Iterable, MutableSequence)


def _kind_of(function: Any) -> str | None:
    """The kind of a call's result besides a plain value (coroutine, generator, …); None for a plain value, or if
    unknown."""
    while isinstance(function, functools.partial):
        function = function.func
    for called in (function, getattr(type(function), "__call__", None)):  # noqa: B004 — its own, to see what it is
        if inspect.isclass(function):
            return None
        if inspect.iscoroutinefunction(called):
            return "coroutine"
        if inspect.isasyncgenfunction(called):
            return "asynchronous generator function"
        if inspect.isgeneratorfunction(called):
            return "generator function"
    return None


def _plainly_written(function: Any) -> bool:
    """Whether a function surely returns no awaitable: written with `def`, and neither wrapped around a coroutine
    function nor annotated as returning one; or a lambda that calls nothing."""
    while isinstance(function, functools.partial):
        function = function.func
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        return inspect.isbuiltin(function)
    if inspect.iscoroutinefunction(inspect.unwrap(function)):
        return False
    if function.__name__ == "<lambda>":
        return not any(each.opname.startswith("CALL") for each in dis.get_instructions(function))
    returns = annotations_of(function).get("return")
    given = typing.get_origin(returns) or returns
    return returns is not Any and (not isinstance(given, type) or not hasattr(given, "__await__"))


def _refused(function: Any, what: str, why: str, hint: str) -> JobDefinitionError:
    name = cut(getattr(function, "__name__", None) or repr(function), 60)
    article = "" if why.startswith(("which", "whose")) else "an " if why[0] in "aeiou" else "a "
    return JobDefinitionError(
        f"{what} got {name}, {article}{why}",
        where=Where(code=line_of_definition(function)),
        hint=hint or None,
    )
