"""Every runtime setting: its name, its default, and where its value comes from (argument, environment, default).

`Settings` holds resolved values only: durations in microseconds, sizes in bytes. `Settings.resolve` is the one place
that reads text such as "5ms" or "64MB" and the `STREAMFLOW_…` variables. Values that a job file lets its user set (an
input path, a threshold) are in `streamflow.job_settings`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from difflib import get_close_matches
from hmac import compare_digest
from pathlib import Path
from typing import Any, Final, Literal, TypedDict, cast

from streamflow.errors import ConfigError, JobDefinitionError, cut, represented, unknown_name
from streamflow.time.timestamps import parse_duration

__all__ = [
    "ENVIRONMENT_PREFIX",
    "LogFormat",
    "LogLevel",
    "Mode",
    "NetworkCompression",
    "RestartKind",
    "RunSettings",
    "Runner",
    "Secret",
    "Settings",
    "StateBackend",
    "cores",
    "parse_bytes",
    "parse_secret",
    "parse_size",
]

Mode = Literal["auto", "streaming", "micro-batch", "batch"]
Runner = Literal["local", "processes", "ray"]
NetworkCompression = Literal["none", "lz4"]
StateBackend = Literal["rocksdb", "memory"]
RestartKind = Literal["auto", "none", "fixed", "exponential"]
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

ENVIRONMENT_PREFIX: Final = "STREAMFLOW_"

_SIZE: Final = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?i?b?)", re.IGNORECASE)
_SIZE_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# A variable this close to a setting's name is a misspelt setting. Other variables with the prefix may belong to other
# programs: Kubernetes, for one, puts STREAMFLOW_SERVICE_HOST into every pod beside a service called streamflow.
_MISSPELT: Final = 0.8


def parse_size(value: int | str, *, what: str = "size") -> int:
    """A size in bytes; units are binary: `"64MB"` and `"64MiB"` are both 64 · 2²⁰. Raises ConfigError.

    >>> parse_size("64MB"), parse_size("1.5 GiB"), parse_size(4096)
    (67108864, 1610612736, 4096)
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        raise ConfigError(
            f"{what} {cut(represented(value))} is not a size",
            hint='write it like "64MB", "1.5GiB", or as bytes',
        )
    unit = found[2].lower().rstrip("b").rstrip("i")
    return round(float(found[1]) * _SIZE_UNITS[unit])


def _choice(*names: str) -> Callable[[Any, str], str]:
    def parse(value: Any, what: str) -> str:
        if value not in names:
            near = get_close_matches(str(value), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the default is {names[0]!r}"
            raise ConfigError(f"{what} is {value!r}, not one of {', '.join(names)}", hint=hint)
        return str(value)

    return parse


def _any_case(*names: str) -> Callable[[Any, str], str]:
    choice = _choice(*names)
    return lambda value, what: choice(value.lower() if isinstance(value, str) else value, what)


def _count(least: int = 1, most: int | None = None) -> Callable[[Any, str], int]:
    def parse(value: Any, what: str) -> int:
        try:
            number = int(value.replace("_", "") if isinstance(value, str) else value)
        except (TypeError, ValueError):
            number = None
        if number is None or isinstance(value, bool | float):
            raise ConfigError(f"{what} is {value!r}", hint="write a whole number")
        if number < least or (most is not None and number > most):
            upto = f" and at most {most}" if most is not None else ""
            raise ConfigError(f"{what} is {number}", hint=f"it must be at least {least}{upto}")
        return number

    return parse


def parse_bytes(value: int | str, what: str) -> int:
    """A size of at least a byte; raises ConfigError."""
    size = parse_size(value, what=what)
    if size <= 0:
        raise ConfigError(f"{what} is {value!r}", hint="it must be at least one byte")
    return size


def _duration(*, zero: bool) -> Callable[[Any, str], int]:
    def parse(value: Any, what: str) -> int:
        try:
            micros = parse_duration(value, what=what, positive=not zero)
        except JobDefinitionError as error:
            raise ConfigError(error.message, hint=error.hint) from error
        if micros < 0:
            raise ConfigError(f"{what} is {value!r}", hint="it must not be negative")
        return micros

    return parse


def _instance(value: Any, what: str) -> tuple[int | None, int]:
    if isinstance(value, tuple):
        index, count = cast("tuple[int | None, int]", value)
        value = f"{'group' if index is None else index + 1}/{count}"
    found = re.fullmatch(r"(group|\d{1,5})/(\d{1,5})", value.strip()) if isinstance(value, str) else None
    number = 0 if found is None else int(found[2] if found[1] == "group" else found[1])
    if found is None or not 1 <= number <= int(found[2]):
        hint = 'write it like "2/4" (the second of four copies), or "group/4" (they agree among themselves)'
        raise ConfigError(f"{what} is {value!r}", hint=hint)
    return None if found[1] == "group" else number - 1, int(found[2])


def _processes(value: Any, what: str) -> int | None:
    return None if value == "auto" else _count(most=1_024)(value, what)


def _cpus(value: Any, what: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if not 0 < number <= 1_024 or isinstance(value, bool):
        raise ConfigError(f"{what} is {value!r}", hint="write a number of cores, like 1 or 0.5")
    return number


def _ports(value: Any, what: str) -> str:
    found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", str(value).strip())
    if found is None or not int(found[1]) <= int(found[2] or found[1]) < 1 << 16:
        raise ConfigError(f"{what} is {value!r}", hint='write it like "20000-20100", or 0 for any free ports')
    return found[0]


def _tls(value: Any, what: str) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[^,]+,[^,]+,[^,]+", value):
        raise ConfigError(
            f"{what} is {value!r}", hint='write the paths of three files, like "tls.crt,tls.key,ca.crt"'
        )
    return value


def _text(value: Any, what: str) -> str:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{what} is {value!r}", hint="write it as text")
    return value


def _flag(value: Any, what: str) -> bool:
    known = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value.lower() not in known:
        raise ConfigError(f"{what} is {value!r}", hint='write "true" or "false"')
    return known[value.lower()]


class Secret:
    """A secret value, which is never shown.

    >>> Secret("s3cret"), Secret("s3cret").reveal()
    (***, 's3cret')
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)


def parse_secret(value: Any, what: str) -> Secret:
    """A secret from its text or, as `file:PATH`, from a file; raises ConfigError, which does not show it.

    >>> parse_secret("s3cret", "the password")
    ***
    """
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{what} is not a text", hint="give the secret itself, or file:PATH")
    if "\0" in value or any("\ud800" <= each <= "\udfff" for each in value):
        # Out of an environment variable, for one. No client could send it, and their errors would show it.
        raise ConfigError(f"{what} is not valid UTF-8 or has a NUL in it", hint="check where it comes from")
    if not value.startswith("file:"):
        return Secret(value)
    path = Path(value.removeprefix("file:"))
    try:
        content = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{what} cannot be read from {path}: {error}", hint="check the path") from error
    if not content:
        raise ConfigError(f"{what}: {path} is empty", hint="write the secret into it")
    if "\0" in content:
        raise ConfigError(f"{what}: {path} has a NUL in it", hint="write the secret alone into it, as text")
    return Secret(content)


_LONGEST_KEY: Final = 64
"""The largest key of keyed blake2b, in bytes."""


def _signing_key(value: Any, what: str) -> Secret:
    secret = parse_secret(value, what)
    length = len(secret.reveal().encode())
    if length > _LONGEST_KEY:
        raise ConfigError(
            f"{what} takes {length} bytes, more than {_LONGEST_KEY}",
            hint="32 random bytes as text are plenty: openssl rand -base64 32",
        )
    return secret


class RunSettings(TypedDict, total=False):
    """The settings that a program may give when it runs a job, by name, as people write them.

    A duration is a text like "90s" or a timedelta, a size a text like "64MB" or bytes; None stands for the default.
    """

    mode: Mode | None
    parallelism: int | None
    runner: Runner | None
    processes: int | Literal["auto"] | None
    worker_timeout: str | timedelta | None
    autoscale: str | None
    ray_address: str | None
    worker_cpus: float | None
    worker_memory: int | str | None
    network_ports: int | str | None
    network_tls: str | None
    network_compression: NetworkCompression | None
    instance: str | tuple[int | None, int] | None
    max_parallelism: int | None
    batch_rows: int | None
    channel_rows: int | None
    channel_bytes: int | str | None
    memory_budget: int | str | None
    read_ahead: int | None
    io_threads: int | None
    checkpoint_dir: str | os.PathLike[str] | None
    checkpoint_interval: str | timedelta | None
    checkpoint_keep: int | None
    checkpoint_physical_every: int | None
    checkpoint_failures: int | None
    output_backlog: int | str | None
    checkpoint_key: str | Secret | None
    checkpoint_lock: bool | None
    restore: str | os.PathLike[str] | None
    allow_dropped_state: bool | None
    allow_duplicates: bool | None
    restart: RestartKind | None
    restart_attempts: int | None
    restart_delay: str | timedelta | None
    restart_max_delay: str | timedelta | None
    micro_batch_interval: str | timedelta | None
    state_backend: StateBackend | None
    state_dir: str | os.PathLike[str] | None
    metrics_port: int | None
    metrics_address: str | None
    metrics_token: str | Secret | None
    log_format: LogFormat | None
    log_level: LogLevel | None
    control_port: int | None
    control_address: str | None
    control_token: str | Secret | None


def _setting(default: Any, parse: Callable[[Any, str], Any]) -> Any:
    """A setting with its default, and the function that parses its value, given the setting's name."""
    return field(default=default, metadata={"parse": parse})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The resolved settings of a run. Durations are microseconds, sizes bytes. Make one with `Settings.resolve`.

    >>> Settings().batch_rows, Settings.resolve({"restart_delay": "20ms"}, environ={}).restart_delay
    (65536, 20000)
    """

    mode: Mode = _setting("auto", _choice("auto", "streaming", "micro-batch", "batch"))
    """auto: batch if every source is bounded, else streaming."""
    parallelism: int = _setting(1, _count(most=32_768))
    """Subtasks per operator; an operator's own `parallel(n)` wins."""
    runner: Runner = _setting("local", _choice("local", "processes", "ray"))
    """Where the subtasks run: local is the program's own process, processes are workers beside it on this machine, ray
    are workers that Ray places on the machines of a cluster."""
    processes: int | None = _setting(None, _processes)
    """Number of workers. auto (None): one for a plan of columns only, else as many as there are cores, up to
    `parallelism`; where only `runner` is given, parallelism is that number, too. With Ray: `parallelism`."""
    worker_timeout: int = _setting(10_000_000, _duration(zero=False))
    """The silence after which a worker counts as dead, and after which one that does not hear the coordinator ends
    itself."""
    autoscale: str | None = _setting(None, _text)
    """Policy by which the job rescales itself, like "busy>0.8 busy<0.3 1..8 every 5m": twice the parallelism while the
    busiest operator is busy for more than 0.8 of its time, half of it below 0.3, from 1 to 8; what is seen has to last
    for that time. None: never. Needs checkpoints."""
    ray_address: str | None = _setting(None, _text)
    """Cluster of Ray whose machines run the workers: auto (the one that this machine is in), or HOST:PORT. None: one of
    this machine alone, for this job."""
    worker_cpus: float = _setting(1.0, _cpus)
    """Cores that Ray keeps for each worker."""
    worker_memory: int | None = _setting(None, parse_bytes)
    """Bytes of memory that Ray keeps for each worker; None: it does not look at memory."""
    network_ports: str = _setting("0", _ports)
    """Ports on which the coordinator and workers listen for one another, under Ray, like "20000-20100"; 0: any free
    ones. Each worker on a host needs one, and so does the coordinator."""
    network_tls: str | None = _setting(None, _tls)
    """Paths of a certificate, its key and the authority's certificate, "tls.crt,tls.key,ca.crt", which are there on
    every host: connections between workers are encrypted, under Ray. None: they are not."""
    network_compression: NetworkCompression = _setting("none", _choice("none", "lz4"))
    """Compression of columns between workers, for networks that are slower than it: none or lz4."""
    instance: tuple[int | None, int] = _setting((0, 1), _instance)
    """This copy's place among several copies of the program that share its input: `"2/4"` is the second of four, (1,
    4); `"group/4"` one of four that agree among themselves, (None, 4)."""
    max_parallelism: int = _setting(128, _count(most=32_768))
    """Number of key groups: fixed for the life of the state."""
    batch_rows: int = _setting(65_536, _count())
    """Rows that a source aims for in one batch."""
    channel_rows: int = _setting(262_144, _count())
    """Rows in flight from the senders of an exchange, all together, to one subtask before they wait."""
    channel_bytes: int = _setting(64 << 20, parse_bytes)
    """Bytes in flight between the subtasks of a process, all together, before senders wait."""
    memory_budget: int = _setting(256 << 20, parse_bytes)
    """Bytes of window and operator state that a process holds in memory before it spills: a quarter for the databases
    in common; of the rest each subtask of an operator that keeps state is sure of half an equal part, and those
    that need more have the other half."""
    read_ahead: int = _setting(3, _count())
    """Pieces of input that a source decodes at the same time."""
    io_threads: int = _setting(4, _count())
    """Threads for each kind of blocking work: decoding input, writing output, keeping state, storing checkpoints."""
    checkpoint_dir: str | None = _setting(None, _text)
    """Folder or object store URL (`s3://…`) for checkpoints; None for no checkpoints."""
    checkpoint_interval: int = _setting(10_000_000, _duration(zero=False))
    """Time between barriers in streaming mode: checkpoints and sinks' commits come this often."""
    checkpoint_keep: int = _setting(3, _count())
    """Number of checkpoints that are kept."""
    checkpoint_physical_every: int = _setting(10, _count())
    """Number of checkpoints after which one is written that shares no file with earlier ones."""
    checkpoint_failures: int = _setting(30, _count())
    """Number of failed checkpoints in a row that fails the job."""
    output_backlog: int = _setting(1 << 30, parse_bytes)
    """Bytes of output that may wait in memory for a checkpoint that cannot be stored, before sinks take no more."""
    checkpoint_key: Secret | None = _setting(None, _signing_key)
    """Key by which checkpoints are signed and checked; `file:PATH` reads it from a file."""
    checkpoint_lock: bool = _setting(True, _flag)
    """Whether a local checkpoint folder is locked against a second process. If False, a later process takes the job
    over and fences off the earlier one, as in an object store."""
    restore: str = _setting("latest", _text)
    """Where to continue: latest (the newest intact checkpoint, or the beginning), none, or a checkpoint
    `PATH#NUMBER`."""
    allow_dropped_state: bool = _setting(False, _flag)
    """Whether state of operators that the job does not have any more may be dropped."""
    allow_duplicates: bool = _setting(False, _flag)
    """Whether to continue although output ahead of the checkpoint cannot be taken back."""
    restart: RestartKind = _setting("auto", _choice("auto", "none", "fixed", "exponential"))
    """Restarts after a failure: none, fixed or exponential delays; auto is exponential with checkpoints, else none."""
    restart_attempts: int = _setting(5, _count())
    """Number of restarts without a checkpoint in between that fails the job."""
    restart_delay: int = _setting(1_000_000, _duration(zero=True))
    """The time before the first restart."""
    restart_max_delay: int = _setting(60_000_000, _duration(zero=True))
    """The longest time before a restart."""
    micro_batch_interval: int = _setting(1_000_000, _duration(zero=False))
    """Time between slices in micro-batch mode."""
    state_backend: StateBackend = _setting("rocksdb", _choice("rocksdb", "memory"))
    """Backend of keyed state while the job runs."""
    state_dir: str | None = _setting(None, _text)
    """Directory for state while the job runs; None: a temporary one."""
    metrics_port: int | None = _setting(None, _count(least=0, most=65_535))
    """Port for /metrics (Prometheus), /healthz and /readyz; None: none, 0: any free one."""
    metrics_address: str = _setting("127.0.0.1", _text)
    """Address of that port; one that is not loopback needs a token."""
    metrics_token: Secret | None = _setting(None, parse_secret)
    """Token that a client of that port has to send; `file:PATH` reads it from a file."""
    log_format: LogFormat = _setting("text", _choice("text", "json"))
    """Format of log lines: text, or JSON objects."""
    log_level: LogLevel | None = _setting(None, _any_case("info", "debug", "warning", "error"))
    """Lowest level that is logged. None: info; warning if a terminal shows the job, and in `job.run`."""
    control_port: int | None = _setting(None, _count(least=0, most=65_535))
    """Port of `streamflow run`'s control server (status, checkpoint, savepoint, stop); None: none, 0: any free one."""
    control_address: str = _setting("127.0.0.1", _text)
    """Address of the control server; one that is not loopback needs a token."""
    control_token: Secret | None = _setting(None, parse_secret)
    """Token that a client of the control server has to send; `file:PATH` reads it from a file."""

    @classmethod
    def resolve(
        cls, arguments: Mapping[str, Any] | None = None, *, environ: Mapping[str, str] | None = None
    ) -> Settings:
        """Settings from arguments, else `STREAMFLOW_<NAME>` variables, else defaults.

        An argument that is None counts as not given. Raises ConfigError for an unknown name (with the nearest one)
        and for a value that makes no sense; the error says where the value came from.

        >>> Settings.resolve({"parallelism": 2}, environ={"STREAMFLOW_BATCH_ROWS": "1024"}).batch_rows
        1024
        >>> Settings.resolve({"paralelism": 2}, environ={})  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        streamflow.errors.ConfigError: no setting 'paralelism'; there are: ...; did you mean 'parallelism'?
        """
        given = {name: value for name, value in (arguments or {}).items() if value is not None}
        for name in given:
            if name not in cls.names():
                message, hint = unknown_name("setting", name, cls.names())
                raise ConfigError(message, hint=hint)
        variables = _variables(os.environ if environ is None else environ, cls.names())
        values: dict[str, Any] = {}
        for each in fields(cls):
            if each.name in given:
                values[each.name] = each.metadata["parse"](given[each.name], each.name)
            elif each.name in variables:
                what = ENVIRONMENT_PREFIX + each.name.upper()
                values[each.name] = each.metadata["parse"](
                    variables[each.name], f"environment variable {what}"
                )
        if values.get("runner", "local") != "local" and "parallelism" not in values:
            values["parallelism"] = values.get("processes") or cores()
        settings = cls(**values)
        settings._check()
        return settings

    def with_parallelism(self, parallelism: int) -> Settings:
        """The same settings with another parallelism; raises ConfigError for one that is not possible."""
        changed = replace(self, parallelism=_count(most=32_768)(parallelism, "parallelism"))
        changed._check()
        return changed

    def _check(self) -> None:
        if self.parallelism > self.max_parallelism:
            raise ConfigError(
                f"parallelism is {self.parallelism}, more than max_parallelism {self.max_parallelism}",
                hint="a subtask owns at least one key group: raise max_parallelism, for state that is new",
            )
        if self.runner == "local" and (self.processes or 1) > 1:
            raise ConfigError(
                f"processes is {self.processes}, and the runner is 'local', which has one",
                hint="give runner='processes' as well, or leave out processes",
            )

    @property
    def secrets(self) -> tuple[str, ...]:
        """The values that must be shown nowhere."""
        values = (getattr(self, name) for name in self.names())
        return tuple(value.reveal() for value in values if isinstance(value, Secret))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all settings."""
        return tuple(each.name for each in fields(cls))


def cores() -> int:
    """The number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _variables(environ: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """The environment's settings by name; an empty variable counts as not set."""
    found: dict[str, str] = {}
    for variable, value in environ.items():
        if not variable.startswith(ENVIRONMENT_PREFIX) or not value:
            continue
        name = variable.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name in names:
            found[name] = value
        elif near := get_close_matches(name, names, n=1, cutoff=_MISSPELT):
            meant = ENVIRONMENT_PREFIX + near[0].upper()
            raise ConfigError(
                f"environment variable {variable} names no setting", hint=f"did you mean {meant}?"
            )
    return found
