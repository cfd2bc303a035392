"""Opens a RocksDB database: raw bytes only, without its log, for its owner only, and never a new one by mistake."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

from streamflow.errors import StateError
from streamflow.state.backends.rocksdb.failures import state_error
from streamflow.state.backends.rocksdb.shared_memory import SharedMemory

if TYPE_CHECKING:
    from rocksdict import Options, Rdict

__all__ = ["open_database", "restrict"]

_WRITE_BUFFERS: Final = 3
_WRITE_BUFFER_FILTER: Final = 0.1
_CONFIG_LIMIT: Final = 1 << 16


def open_database(directory: Path, memory: SharedMemory, *, must_exist: bool) -> Rdict:
    """The database in `directory`, made if there is none and `must_exist` does not forbid it; raises StateError
    otherwise."""
    from rocksdict import Rdict, WriteOptions

    # RocksDB leaves an empty directory behind even where it then refuses to make a database.
    exists = (directory / "CURRENT").exists()
    if must_exist and not exists:
        raise StateError(
            f"no state database in {directory}",
            hint="check the path; an empty one is not made where state was expected",
        )
    if exists:
        _check_raw(directory)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        database = Rdict(str(directory), _options(memory, create=not must_exist))
    except Exception as error:
        raise state_error("open", directory, error) from error
    writes = WriteOptions()
    _disable_wal(writes)
    database.set_write_options(writes)
    restrict(directory)
    return database


def _options(memory: SharedMemory, *, create: bool) -> Options:
    from rocksdict import BlockBasedOptions, DBCompressionType, Options

    blocks = BlockBasedOptions()
    blocks.set_block_cache(memory.cache)
    blocks.set_bloom_filter(10, False)
    options = Options(raw_mode=True)
    options.create_if_missing(create)
    options.set_block_based_table_factory(blocks)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_write_buffer_manager(memory.buffers)
    options.set_write_buffer_size(memory.buffer)
    options.set_max_open_files(memory.tables)
    # Keys that are not in a write buffer are not searched for there: a third of the time of a read.
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(_WRITE_BUFFER_FILTER)
    options.set_max_write_buffer_number(_WRITE_BUFFERS)
    options.set_paranoid_checks(True)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1 << 20)
    options.set_stats_dump_period_sec(0)
    return options


def _disable_wal(writes: object) -> None:
    """Disables the log: rocksdict's stub says that this is a method; it is a property."""
    setattr(writes, "disable_wal", True)  # noqa: B010


def _check_raw(directory: Path) -> None:
    """Refuses a database whose values rocksdict would unpickle, before it is opened: opening it would change
    it."""
    path = directory / "rocksdict-config.json"
    try:
        with path.open("rb") as file:
            raw = json.loads(file.read(_CONFIG_LIMIT)).get("raw_mode")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise StateError(
            f"the state database in {directory} cannot be opened: {path.name} is missing or damaged ({error})",
            hint="restore it from a checkpoint",
        ) from error
    if raw is not True:
        raise StateError(
            f"the database in {directory} was not written by streamflow", hint="give another state directory"
        )


def restrict(directory: Path) -> None:
    """Makes files readable by their owner only. Not by umask, which is the whole process's; the directory is closed
    to others anyway."""
    for path in directory.iterdir():
        try:
            path.chmod(0o600)
        except FileNotFoundError:
            continue  # compaction has just removed it
