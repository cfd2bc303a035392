"""Messages between processes as bytes: msgpack of the attempt, the message's name and its fields.

The values of users and connectors in them (positions, sealed output, payloads of splits) are those of `core.serde`,
and come back as they were. Bytes of another process make nothing but messages: the unions are closed, types and sizes
are checked, errors come out of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar, cast, get_args

import msgspec

from streamflow.core.serde import pack, unpack
from streamflow.errors import RawRecord, StateError
from streamflow.operators.contract.source import Position, Split
from streamflow.operators.contract.waiting import Waiting
from streamflow.runtime.blame import unforeseen
from streamflow.runtime.checkpoints.snapshots import SubtaskPart
from streamflow.runtime.control.assignment import SplitState
from streamflow.runtime.control.epochs import Sealed
from streamflow.runtime.control.framing import MAX_FRAME_BYTES, ProtocolError
from streamflow.runtime.control.messages import FromProcess, Raised, Told, ToProcess
from streamflow.runtime.control.sent_errors import SentError

__all__ = ["encoded", "from_process", "to_process"]

T = TypeVar("T")


def encoded(told: Told[FromProcess] | Told[ToProcess]) -> bytes:
    """A message as bytes. Raises RecordError for a value that cannot be sent, which could not be in a checkpoint
    either, and ProtocolError for more bytes than fit into a frame.

    >>> from streamflow.runtime.control.messages import Passed
    >>> from_process(encoded(Told(3, Passed("window-1-0", 7))))
    Told(attempt=3, message=Passed(subtask='window-1-0', epoch=7))
    """
    message = told.message
    values = [_plain(name, getattr(message, name)) for name in message.__struct_fields__]
    data = pack([told.attempt, _tag(type(message)), *values], bounded=False)
    if len(data) > MAX_FRAME_BYTES:
        raise ProtocolError(
            f"a message {_tag(type(message))} takes {len(data)} bytes, and may take {MAX_FRAME_BYTES}",
            hint="let a sink seal less in one epoch: take checkpoints more often, or raise parallelism",
        )
    return data


def from_process(data: bytes) -> Told[FromProcess]:
    """The message of a worker in these bytes; raises ProtocolError for any other bytes."""
    told = _decoded(data, _FROM_PROCESS, Told[FromProcess])
    if isinstance(told.message, Raised) and isinstance(error := told.message.error, OSError):
        return Told(told.attempt, Raised(unforeseen(error)))
    return told


def to_process(data: bytes) -> Told[ToProcess]:
    """The message to a worker in these bytes; raises ProtocolError for any other bytes."""
    return _decoded(data, _TO_PROCESS, Told[ToProcess])


def _decoded(data: bytes, messages: Mapping[str, type[msgspec.Struct]], told: type[T]) -> T:
    if len(data) > MAX_FRAME_BYTES:
        raise ProtocolError(f"a message of {len(data)} bytes, more than {MAX_FRAME_BYTES}")
    try:
        values: object = unpack(data, bounded=False)
        attempt, tag, *given = cast("list[Any]", values)
        names = messages[tag].__struct_fields__
        message = {"type": tag, **dict(zip(names, given, strict=True))}
        return msgspec.convert({"attempt": attempt, "message": message}, told, dec_hook=_error)
    except (StateError, msgspec.MsgspecError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ProtocolError(
            f"bytes from another process are no message: {type(error).__name__}: {error}",
            hint="all processes of a job have to be of the same version",
        ) from error


def _error(kind: type, value: object) -> object:
    """The error of a field."""
    error = msgspec.convert(value, SentError).error()
    if not isinstance(error, kind):
        raise ValueError(f"it is no {kind.__name__}")
    return error


def _tag(message: type[msgspec.Struct]) -> str:
    return cast("str", message.__struct_config__.tag)


def _by_tag(union: Any) -> Mapping[str, type[msgspec.Struct]]:
    return {_tag(each): each for each in get_args(union)}


_FROM_PROCESS: Final = _by_tag(FromProcess)
_TO_PROCESS: Final = _by_tag(ToProcess)


def _plain(name: str, value: object) -> object:
    """The value of a field in the form in which it is sent."""
    own = _OF_OTHERS.get(name)
    if own is not None:
        return own(value)
    match value:
        case BaseException():
            return _plain("", SentError.of(value))
        case msgspec.Struct():
            return {each: _plain(each, getattr(value, each)) for each in value.__struct_fields__}
        case SplitState() | Split() | SubtaskPart() | Waiting() | RawRecord():
            return {each.name: _plain(each.name, getattr(value, each.name)) for each in fields(value)}
        case Mapping():
            return {key: _plain("", each) for key, each in cast("Mapping[Any, object]", value).items()}
        case list() | tuple():
            return [_plain("", each) for each in cast("Sequence[object]", value)]
        case _:
            return value


def _sealed(sealed: Sealed) -> object:
    return [(sink, dict(committable)) for sink, committable in sealed]


def _positions(positions: tuple[str, Mapping[str, Position]] | None) -> object:
    if positions is None:
        return None
    source, by_split = positions
    return source, {split: dict(position) for split, position in by_split.items()}


def _dict(values: Mapping[str, Any] | None) -> object:
    return None if values is None else dict(values)


_OF_OTHERS: Final[Mapping[str, Callable[[Any], object]]] = {
    "sealed": _sealed,
    "positions": _positions,
    "position": _dict,
    "payload": _dict,
    "settings": _dict,
    "facts": _dict,
}
"""The fields whose values are not streamflow's own: they are sent as they are, as deep as they are in a checkpoint."""
