"""Files of hostile records, and of bytes that are damaged: each record is what Python's own reader says or is bad by
policy, each file is read or refused with an error that names it; nothing hangs, and no value is another.

An input is one generated record, or one damaged file.
"""

import asyncio
import gzip
import io
import json
import random
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.figures import Figure
from reliability.account import Account
from reliability.file_oracle import (
    BAD,
    UNSAID,
    csv_records,
    expected_csv,
    expected_json,
    expected_text,
    same,
)
from reliability.fuzzing import Fuzzing
from streamflow.core.frame import FrameBatch
from streamflow.errors import RecordError, StreamflowError
from streamflow.operators.connectors.files.source import FileSource
from streamflow.operators.contract.operator import ErrorPolicy
from streamflow.operators.contract.source import SourceContext
from streamflow.runtime.ports import Inline
from streamflow.time.clock import SeededRandom, SystemClock

INPUTS = 700_000
BOMBS = ["bomb.txt.gz", "bomb.ndjson.zst", "bomb.csv.gz", "bomb.ndjson.gz"]
RECORDS = 400
JSON_SCHEMA: dict[str, Any] = {
    "i": pl.Int64(), "b": pl.Int8(), "u": pl.UInt64(), "f": pl.Float64(), "g": pl.Float32(), "s": pl.String(),
    "t": pl.Boolean(), "d": pl.Decimal(12, 3), "l": pl.List(pl.Int64()), "a": pl.Array(pl.Int64(), 2),
    "n": pl.Struct({"x": pl.Int8(), "y": pl.String()}), "ls": pl.List(pl.String()),
}  # fmt: skip
CSV_SCHEMA: dict[str, Any] = {
    "i": pl.Int64(), "b": pl.Int8(), "f": pl.Float64(), "g": pl.Float32(), "s": pl.String(), "d": pl.Decimal(12, 3),
}  # fmt: skip
_NUMBERS = [
    "0", "-0", "1", "-1", "127", "128", "-128", "-129", "255", "1.5", "1.10", "1.0", "1e2", "1E-2", "-1.25e-3", "0.1",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551615",
    "18446744073709551616", "9007199254740993", "123456789.123", "123456789.1234", "3.4e38", "3.5e38", "1e400", "1e308",
    "01", "+1", ".5", "1.", "1e", "--1", "0x10", "NaN", "Infinity", "1_0",
]  # fmt: skip
_TEXTS = [
    "", " ", "x", "ü", "😀", "a,b", 'a"b', "a\nb", "a\tb", "null", "true", "1", "1.10", "-5", "{}", "[1]", "\\", "\x7f",
    "__HIVE_DEFAULT_PARTITION__", "2013-01-01T05:17:00Z", "x" * 300, "\u2028", "\ufeff",
]  # fmt: skip
_SPOILT = [
    '"\\ud800"',
    '"\\ud83d\\u0041"',
    '"\\x"',
    '"',
    "tru",
    "nul",
    "[1",
    "{",
    "]",
    "'x'",
    '"a\tb"',
    '"\x00"',
    "",
]


def run(account: Account, folder: Path, *, quick: bool = False) -> None:
    """The whole part."""
    work = folder / "fuzz-files"
    work.mkdir(parents=True, exist_ok=True)
    fuzzing = Fuzzing(random.Random(account.seed), work)
    started, most = time.monotonic(), 20_000 if quick else INPUTS
    slowest = 0.0
    while fuzzing.inputs < most:
        for kind in KINDS:
            begun = time.monotonic()
            kind(fuzzing)
            slowest = max(slowest, time.monotonic() - begun)
    for name in BOMBS:
        bomb(fuzzing, name)
    for each in fuzzing.wrong:
        account.fail(each)
    account.add(
        Figure("fuzzed records and files", fuzzing.inputs, "inputs", "≥", most),
        Figure("read as Python reads them", fuzzing.outcomes["read"], "records", "≥", 0),
        Figure("bad by policy", fuzzing.outcomes["bad"], "records", "≥", 0),
        Figure("files refused with an error", fuzzing.outcomes["refused"], "files", "≥", 0),
        Figure("wrong values, foreign errors", fuzzing.outcomes["wrong"], "", "≤", 0),
        Figure("slowest file", round(slowest, 2), "s", "≤", 30),
        Figure("inputs a second", round(fuzzing.inputs / (time.monotonic() - started)), "", "≥", 0),
    )


# Reading.


def read(source: FileSource, on_error: ErrorPolicy, batch_rows: int) -> tuple[list[Any], int]:
    """The rows of a source and how many records were bad; raises what it raises."""
    context = SourceContext(
        operator_id="fuzz",
        clock=SystemClock(),
        random=SeededRandom(1),
        run_blocking=Inline(),
        batch_rows=batch_rows,
        on_error=on_error,
        columns=None,
    )

    async def all_of_it() -> tuple[list[Any], int]:
        rows: list[Any] = []
        bad = 0
        for split in (await source.enumerator(context).discover()).splits:
            reader = source.reader(split, None, context)
            try:
                while (fetch := await reader.fetch()) is not None:
                    decoded = await context.run_blocking(fetch.decode)
                    batch = decoded.batch
                    rows += batch.frame.to_dicts() if isinstance(batch, FrameBatch) else list(batch.values)
                    bad += len(decoded.bad)
            finally:
                await reader.close()
        return rows, bad

    return asyncio.run(all_of_it())


def compare(fuzzing: Fuzzing, path: Path, source: FileSource, expected: list[Any]) -> None:
    """Reads a file of records of which it is known what they are, and counts."""
    expected = [each for each in expected if each is not None]
    fuzzing.inputs += len(expected)
    batch_rows = fuzzing.chance.choice([1, 50, 100_000])
    try:
        rows, bad = read(source, "skip", batch_rows)
    except BaseException as error:  # noqa: BLE001 — whatever it is, it is wrong here
        fuzzing.fail(f"{_kept(path)}: {type(error).__name__}: {str(error)[:300]}")
        return
    problem = _difference(rows, bad, expected)
    if problem is not None:
        fuzzing.fail(f"{_kept(path)}: {problem}")
        return
    fuzzing.outcomes["read"] += len(rows)
    fuzzing.outcomes["bad"] += bad
    if bad and fuzzing.chance.random() < 0.1:
        try:
            read(source, "fail", batch_rows)
        except RecordError:
            return
        except BaseException as error:  # noqa: BLE001
            fuzzing.fail(f"{_kept(path)} under fail: {type(error).__name__}: {str(error)[:300]}")
            return
        fuzzing.fail(f"{_kept(path)} under fail: no error")


def _kept(path: Path) -> Path:
    """The file, where the next ones do not replace it."""
    kept = path.with_name(f"wrong-{len(list(path.parent.glob('wrong-*')))}-{path.name}")
    return path.rename(kept)


def _difference(rows: list[Any], bad: int, expected: list[Any]) -> str | None:
    if len(rows) + bad != len(expected):
        return f"{len(rows)} rows and {bad} bad of {len(expected)} records"
    sure = [each for each in expected if each is not BAD and each is not UNSAID]
    if all(each is not UNSAID for each in expected):
        if len(sure) != len(rows):
            return f"{bad} bad where {len(expected) - len(sure)} are"
        return next((f"{a} where {b} is" for a, b in zip(rows, sure, strict=True) if not same(a, b)), None)
    # Those of which nothing is said may or may not be there: the others are, in order.
    position = 0
    for each in sure:
        while position < len(rows) and not same(rows[position], each):
            position += 1
        if position == len(rows):
            return f"{each} is missing"
        position += 1
    return None


# Records.


def json_values(chance: random.Random, *, sound: bool) -> Iterator[tuple[str, str]]:
    for name, dtype in JSON_SCHEMA.items():
        if chance.random() < 0.5:
            continue
        spoilt = not sound and chance.random() < 0.1
        yield name, (_hostile(chance) if spoilt else chance.choice(_pool(dtype)))
        if chance.random() < 0.02:
            yield name, chance.choice(_pool(dtype))
    if chance.random() < 0.1:
        yield "other", chance.choice(_pool(chance.choice(list(JSON_SCHEMA.values()))))


@cache
def _pool(dtype: Any) -> list[str]:
    chance = random.Random(str(dtype))
    return [_sound(chance, dtype) for _ in range(500)]


def _sound(chance: random.Random, dtype: Any) -> str:
    if chance.random() < 0.1:
        return "null"
    if isinstance(dtype, pl.List | pl.Array):
        size = dtype.size if isinstance(dtype, pl.Array) else chance.randrange(4)
        return "[" + ",".join(_sound(chance, dtype.inner) for _ in range(size)) + "]"
    if isinstance(dtype, pl.Struct):
        return "{" + ",".join(f'"{each.name}":{_sound(chance, each.dtype)}' for each in dtype.fields) + "}"
    if dtype == pl.String:
        return (
            _quoted(chance, chance.choice(_TEXTS)) if chance.random() < 0.8 else chance.choice(_NUMBERS[:12])
        )
    if dtype == pl.Boolean:
        return chance.choice(["true", "false"])
    if dtype.is_float():
        return repr(chance.uniform(-1e6, 1e6)) if chance.random() < 0.8 else chance.choice(_NUMBERS[:10])
    if isinstance(dtype, pl.Decimal):
        text = f"{chance.randrange(-(10**8), 10**8)}.{chance.randrange(1000):03}"
        return text if chance.random() < 0.5 else f'"{text}"'
    return str(chance.randrange(-128, 128) if dtype == pl.Int8 else chance.randrange(2**62))


def _quoted(chance: random.Random, text: str) -> str:
    return json.dumps(text, ensure_ascii=chance.random() < 0.5)


def _hostile(chance: random.Random) -> str:
    pick = chance.random()
    if pick < 0.4:
        return chance.choice(_NUMBERS)
    if pick < 0.6:
        return _quoted(chance, chance.choice(_TEXTS))
    return (
        chance.choice(_SPOILT)
        if pick < 0.8
        else chance.choice(_pool(chance.choice(list(JSON_SCHEMA.values()))))
    )


def mutated(chance: random.Random, data: bytes) -> bytes:
    """A few bytes changed, taken out, put in or repeated."""
    spoilt = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(spoilt) + 1)
        match chance.randrange(4):
            case 0 if spoilt:
                spoilt[at % len(spoilt)] = chance.choice(b'{}[]",:\\\x00\xff\xc3e-+.0 \r')
            case 1:
                del spoilt[at : at + chance.randrange(1, 5)]
            case 2:
                spoilt[at:at] = bytes(chance.choice(b'{}[]",:\\\x00\xff\xc3e-+.0 \r') for _ in range(2))
            case _:
                spoilt[at:at] = spoilt[max(0, at - 8) : at]
    return bytes(spoilt).replace(b"\n", b" ")


def json_file(fuzzing: Fuzzing) -> None:
    """JSON objects into columns."""
    chance = fuzzing.chance
    sound = chance.random() < 0.4
    lines: list[bytes] = []
    for _ in range(RECORDS):
        space = chance.choice(["", "", " "])
        pairs = [f'"{name}":{space}{value}' for name, value in json_values(chance, sound=sound)]
        line = ("{" + f",{space}".join(pairs) + "}").encode("utf-8", "surrogatepass").replace(b"\n", b" ")
        lines.append(mutated(chance, line) if not sound and chance.random() < 0.3 else line)
    path = fuzzing.folder / chance.choice(["x.ndjson", "x.ndjson.gz", "x.ndjson.zst"])
    _write(path, b"\n".join(lines) + chance.choice([b"\n", b""]))
    source = FileSource(path, schema=JSON_SCHEMA)
    compare(fuzzing, path, source, [expected_json(line.removesuffix(b"\r"), JSON_SCHEMA) for line in lines])


def csv_file(fuzzing: Fuzzing) -> None:
    """CSV with quotes."""
    chance = fuzzing.chance
    sound = chance.random() < 0.4
    lines: list[bytes] = []
    for _ in range(RECORDS):
        fields: list[str] = []
        for dtype in CSV_SCHEMA.values():
            if not sound and chance.random() < 0.1:
                text = chance.choice(_NUMBERS + _TEXTS)
            elif dtype == pl.String:
                text = chance.choice(_TEXTS)
            else:
                text = chance.choice(_pool(dtype)).strip('"').replace("null", "")
            fields.append(
                '"' + text.replace('"', '""') + '"'
                if set(text) & set(',"\n\r') or chance.random() < 0.1
                else text
            )
        line = ",".join(fields).encode()
        if not sound and chance.random() < 0.2:
            line = mutated(chance, line).replace(b'"', b"'")
        lines.append(line)
    header = ",".join(CSV_SCHEMA).encode()
    mark = chance.choice([b"", b"\xef\xbb\xbf"])
    body = chance.choice([b"\n", b"\r\n"] if sound else [b"\n"]).join(lines)
    path = fuzzing.folder / chance.choice(["x.csv", "x.csv.gz"])
    _write(path, mark + header + b"\n" + body + chance.choice([b"\n", b""]))
    compare(
        fuzzing,
        path,
        FileSource(path, schema=CSV_SCHEMA),
        [expected_csv(r, CSV_SCHEMA) for r in csv_records(body)],
    )


def text_file(fuzzing: Fuzzing) -> None:
    """Lines of text."""
    chance = fuzzing.chance
    lines = [mutated(chance, chance.choice(_TEXTS).encode().replace(b"\n", b" ")) for _ in range(RECORDS)]
    path = fuzzing.folder / chance.choice(["x.txt", "x.txt.gz", "x.txt.zst"])
    # A mark at the start is one.
    lines[0] = b"first"
    _write(path, b"\n".join(lines) + b"\n")
    expected = [expected_text(line) for line in lines]
    compare(fuzzing, path, FileSource(path), expected)


def _write(path: Path, data: bytes) -> None:
    if path.suffix == ".gz":
        data = gzip.compress(data, 1)
    elif path.suffix == ".zst":
        import zstandard

        data = zstandard.ZstdCompressor(1, write_checksum=True).compress(data)
    path.write_bytes(data)


# Damaged files.


def damaged(fuzzing: Fuzzing) -> None:
    """Tables and compressed files with bytes changed or cut off: read, or refused by name."""
    chance = fuzzing.chance
    frame = pl.DataFrame(
        {"i": range(50), "s": [str(n) * 3 for n in range(50)], "l": [[n] for n in range(50)]}
    )
    wholes: dict[str, bytes] = {}
    for name, write in (("x.parquet", frame.write_parquet), ("x.arrow", frame.write_ipc)):
        buffer = io.BytesIO()
        write(buffer)
        wholes[name] = buffer.getvalue()
    lines = b"".join(b'{"i":%d}\n' % n for n in range(500))
    for name in ("x.ndjson.gz", "x.ndjson.zst"):
        _write(fuzzing.folder / name, lines)
        wholes[name] = (fuzzing.folder / name).read_bytes()
    for name, whole in wholes.items():
        for _ in range(5):
            data = bytearray(whole)
            if chance.random() < 0.4:
                del data[chance.randrange(len(data)) :]
            for _ in range(chance.randrange(0 if len(data) < len(whole) else 1, 4)):
                if data:
                    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            path = fuzzing.folder / name
            path.write_bytes(data)
            fuzzing.inputs += 1
            _survives(fuzzing, path, None if name.startswith("x.n") else {"i": pl.Int64(), "s": pl.String()})


def _survives(fuzzing: Fuzzing, path: Path, schema: Any) -> None:
    try:
        rows, _ = read(FileSource(path, schema=schema or {"i": pl.Int64()}), "skip", 100)
    except StreamflowError as error:
        fuzzing.outcomes["refused"] += 1
        if str(path) not in str(error):
            fuzzing.fail(f"{_kept(path)}: an error that names no file: {error}")
    except BaseException as error:  # noqa: BLE001
        fuzzing.fail(f"{_kept(path)}: {type(error).__name__}: {str(error)[:300]}")
    else:
        # Compressed text has a checksum: what is read to the end is what was written.
        if schema is None and [row["i"] for row in rows] != list(range(500)) and path.stat().st_size:
            fuzzing.fail(f"{_kept(path)}: other rows than were written")


def bomb(fuzzing: Fuzzing, name: str) -> None:
    """Little that decompresses to much: refused at the length that a line may have."""
    path = fuzzing.folder / name
    _write(path, b'"' + bytes(80 << 20))
    fuzzing.inputs += 1
    _survives(fuzzing, path, {"line": pl.String()} if ".txt" in name else {"i": pl.Int64()})


Kind = Callable[[Fuzzing], None]
KINDS: list[Kind] = [json_file, json_file, csv_file, text_file, damaged]
