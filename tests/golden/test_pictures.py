"""The pictures of the docs, drawn from runs.

`UPDATE_GOLDEN=1 pytest tests/golden` draws them again; look at them before committing.
"""

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import streamflow as sf
from streamflow import col
from streamflow.testing import TestJob
from streamflow.testing.drawing import Drawing, Lanes, Scale, Tracks
from streamflow.windows.triggers import Trigger

FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
SEEN = [(1, 2), (4, 6), (7, 4), (9, 11), (12, 9), (14, 17), (19, 8), (20, 22), (24, 27), (27, 31)]
"""(when it came, event time): a little out of order, and the eighth of them far."""


def drawn(
    title: str,
    results: Callable[[sf.Stream], sf.Stream],
    seen: Sequence[tuple[Any, ...]],
    *,
    columns: Sequence[str] = ("ts",),
    label: Callable[[Mapping[str, Any]], object] = lambda row: row["ts"],
    result: Callable[[Mapping[str, Any]], object] = lambda row: row["n"],
    until: float = 30,
    idle_after: str | None = None,
    scale: Scale | None = None,
) -> Drawing:
    """The results of records; seen: (when it came, its columns)."""
    job = sf.Job("drawn")
    events = job.read(
        sf.MemorySource([dict(zip(columns, seen[0][1:], strict=True))]),
        event_time=sf.epoch("ts", unit="s"),
        watermark=sf.bounded_disorder("3s", idle_after=idle_after),
    )
    results(events).collect()
    with TestJob(job, watermarks="job", splits=2 if "split" in columns else 1) as t:
        drawing = Drawing(t, title, label=label, result=result, scale=scale or Scale())
        for at, *values in seen:
            row = dict(zip(columns, values, strict=True))
            drawing.record(at, row, split=row.get("split", 0))
        return drawing.until(until)


def counts(
    title: str, window: Any, seen: Sequence[tuple[int, ...]] = SEEN, *, until: float = 30, **how: Any
) -> Drawing:
    """Counts of records in windows, each record labelled by its event time."""
    return drawn(
        title, lambda events: events.window(window, **how).aggregate(n=sf.count()), seen, until=until
    )


def tumbling() -> Drawing:
    return counts("Fixed windows of 10 s; records up to 3 s out of order", sf.tumbling("10s"))


def lateness() -> Drawing:
    return counts("The same, with 20 s of allowed lateness", sf.tumbling("10s"), allowed_lateness="20s")


def sliding() -> Drawing:
    return counts(
        "Windows of 20 s, one every 10 s", sf.sliding("20s", every="10s"), SEEN[:6] + SEEN[7:], until=32
    )


def sessions() -> Drawing:
    seen = [(1, 1), (3, 4), (8, 10), (11, 7), (19, 21), (22, 24), (31, 34)]
    return counts("Sessions: a pause of 5 s ends one", sf.session(gap="5s"), seen, until=34)


def cumulative() -> Drawing:
    return counts("Windows that grow by 10 s, up to 30 s", sf.cumulative("30s", step="10s"), until=32)


EARLY_AND_LATE = sf.after_watermark(early=sf.after_processing_time("4s"), late=sf.after_count(1))


def early_late() -> Drawing:
    return counts(
        "Early panes after 4 s, one on time, one for each late record",
        sf.tumbling("10s"),
        trigger=EARLY_AND_LATE,
        allowed_lateness="20s",
    )


def early_discarding() -> Drawing:
    return counts(
        "The same, discarding: what is new since the pane before",
        sf.tumbling("10s"),
        trigger=EARLY_AND_LATE,
        allowed_lateness="20s",
        accumulation="discarding",
    )


def early_retracting() -> Drawing:
    return drawn(
        "The same, retracting: a pane takes back the one before",
        lambda events: events.window(
            sf.tumbling("10s"), trigger=EARLY_AND_LATE, allowed_lateness="20s", accumulation="retracting"
        ).aggregate(n=sf.count()),
        SEEN,
        result=changed("n"),
    )


def changed(column: str) -> Callable[[Mapping[str, Any]], str]:
    """A change in a picture: the value that comes, or is taken back."""
    return lambda row: f"{'−' if row['change'] in ('delete', 'update_before') else '+'}{row[column]}"


def triggered(title: str, trigger: Trigger) -> Drawing:
    return counts(title, sf.tumbling("10s"), trigger=trigger, allowed_lateness="6s")


def by_count() -> Drawing:
    return triggered("Whenever two more have come", sf.repeatedly(sf.after_count(2)))


def by_clock() -> Drawing:
    return triggered("4 s after the first new one", sf.repeatedly(sf.after_processing_time("4s")))


def by_any() -> Drawing:
    either = sf.after_any(sf.after_count(2), sf.after_processing_time("4s"))
    return triggered("When two have come, or after 4 s", sf.repeatedly(either))


def by_all() -> Drawing:
    both = sf.after_all(sf.after_count(2), sf.after_processing_time("6s"))
    return triggered("When two have come, but not before 6 s", sf.repeatedly(both))


def in_turn() -> Drawing:
    each = sf.after_each(sf.after_count(1), sf.repeatedly(sf.after_watermark()))
    return triggered("At the first record, and then by the watermark", each)


def until_the_end() -> Drawing:
    trigger = sf.repeatedly(sf.after_count(2)).or_finally(sf.after_watermark())
    return triggered("Whenever two more have come, until the watermark has", trigger)


def once() -> Drawing:
    return triggered("Once, by the watermark: what is late is dropped", sf.after_watermark())


def never() -> Drawing:
    return triggered("Never, until the window is over", sf.never())


def global_window() -> Drawing:
    return counts(
        "All records: whenever three more have come",
        sf.global_window(),
        trigger=sf.repeatedly(sf.after_count(3)),
    )


def offset() -> Drawing:
    return counts(
        "Windows of 10 s that begin at 4, 14, 24", sf.tumbling("10s", offset="4s"), SEEN[:6] + SEEN[7:]
    )


def calendar() -> Drawing:
    zero = int(datetime(2024, 3, 29, 23, tzinfo=UTC).timestamp())
    axes = "event time → in hours (processing time ↑ in seconds, watermark red)"
    hours = (5, 14, 20, 30, 43, 47, 60, 69, 76)
    days = sf.calendar("1d", tz="Europe/Berlin")
    length = (col("window_end") - col("window_start")).dt.total_hours()
    return drawn(
        "Days in Berlin; on the second one the clocks change, at 2 in the morning",
        lambda events: events.window(days).aggregate(n=sf.count()).with_columns(length=length),
        [(2 + 3 * number, zero + 3_600 * hour) for number, hour in enumerate(hours)],
        label=lambda row: "",
        result=lambda row: f"{row['length']} h: {row['n']} records",
        until=29,
        scale=Scale(zero, 3_600.0, axes),
    )


class Phases(sf.WindowAssigner):
    """Windows of 12 s; what comes between them, for 3 s, is in none."""

    def assign(self, times: pl.Series) -> tuple[pl.Series, pl.Series]:
        micros = times.to_physical()
        starts = micros - micros % 15_000_000
        starts = pl.select(pl.when(micros - starts < 12_000_000).then(starts)).to_series()
        return starts, starts + 12_000_000


def own_windows() -> Drawing:
    return counts("Own windows: 12 s of each 15 s, and 3 s in none", Phases(), SEEN[:6] + SEEN[7:], until=34)


def count_windows() -> Drawing:
    return counts("Windows of three records, in the order of event time", sf.count_window(3))


ORDERS = [
    (1, 2, 1),
    (3, 6, 2),
    (5, 4, 1),
    (8, 9, 2),
    (11, 13, 1),
    (14, 11, 1),
    (17, 19, 2),
    (21, 16, 1),
    (24, 27, 2),
]
"""(when it came, event time, key): a little out of order."""


def by_key(title: str, results: Callable[[sf.Stream], sf.Stream]) -> Drawing:
    return drawn(
        title,
        results,
        ORDERS,
        columns=("ts", "key"),
        label=lambda row: row["key"],
        result=lambda row: "",
        until=30,
    )


def deduplicate_first() -> Drawing:
    return by_key("The first of each key within 10 s", lambda events: events.deduplicate("key", within="10s"))


def deduplicate_last() -> Drawing:
    return by_key(
        "The last of each key within 10 s: when no later one can come",
        lambda events: events.deduplicate("key", within="10s", keep="last"),
    )


def sort() -> Drawing:
    return by_key(
        "In order of event time: when nothing earlier can come", lambda events: events.sort("event_time")
    )


def top_k() -> Drawing:
    seen = [(1, 2, 5), (3, 6, 9), (8, 11, 3), (12, 14, 7), (17, 19, 4), (22, 23, 8)]
    return drawn(
        "The two largest: a record goes when a larger one comes",
        lambda events: events.key_by(pl.lit("all").alias("key")).top_k(2, by="v"),
        seen,
        columns=("ts", "v"),
        label=lambda row: row["v"],
        result=changed("v"),
    )


def quiet() -> Drawing:
    seen = [(1, 1, 0), (2, 2, 1), (5, 6, 0), (9, 11, 0), (13, 16, 0), (17, 21, 0), (27, 31, 0)]
    return drawn(
        "One of two partitions is quiet, for 10 s at most",
        lambda events: events.window(sf.tumbling("10s")).aggregate(n=sf.count()),
        seen,
        columns=("ts", "split"),
        until=32,
        idle_after="10s",
    )


async def endless() -> AsyncIterator[dict[str, Any]]:
    """A source without an end, so that no table is read to its end first; its records are pushed."""
    for row in ():
        yield row


def joined(
    title: str,
    join: Callable[[sf.Stream, sf.Stream], sf.Stream],
    seen: Sequence[tuple[int, int, int]],
    *,
    gone: int | None = None,
) -> Lanes:
    """A join of two streams, each record labelled by its event time; seen: (when it came, input, event time). `gone` is
    the time of a record that takes a table's row away."""
    job = sf.Job("joined")
    left, right = (
        job.read(
            sf.source(endless, schema={"k": pl.String, "ts": pl.Int64}),
            event_time=sf.epoch("ts", unit="s"),
            watermark=sf.bounded_disorder("3s"),
        ).named(side)
        for side in ("left", "right")
    )
    join(left, right).collect()
    with TestJob(job, watermarks="job") as t:
        lanes = Lanes(
            t,
            title,
            ("left", "right"),
            label=lambda row: f"{row['ts']}{', gone' if row['ts'] == gone else ''}",
            pair=lambda row: (row["ts"], row.get("ts_right")),
        )
        for at, side, time in seen:
            lanes.record(at, side, {"k": "a", "ts": time})
        return lanes.end(seen[-1][0] + 1)


PAIRED = [(1, 0, 1), (3, 1, 3), (5, 1, 6), (8, 0, 10), (14, 1, 17), (17, 0, 19), (22, 1, 21), (26, 0, 26)]


def interval_join() -> Lanes:
    return joined(
        "Within 0 to 5 s, how=left: a row alone waits for the watermark",
        lambda left, right: left.join(right, on="k", within=("0s", "5s"), how="left"),
        PAIRED,
    )


def semi_join() -> Lanes:
    return joined(
        "Within 0 to 5 s, how=semi: a row of the left, once, if it has a partner",
        lambda left, right: left.join(right, on="k", within=("0s", "5s"), how="semi"),
        PAIRED,
    )


def anti_join() -> Lanes:
    return joined(
        "Within 0 to 5 s, how=anti: a row of the left, if no partner can come",
        lambda left, right: left.join(right, on="k", within=("0s", "5s"), how="anti"),
        PAIRED,
    )


def versioned_join() -> Lanes:
    seen = [
        (2, 1, 2),
        (4, 0, 4),
        (7, 1, 8),
        (9, 0, 10),
        (10, 0, 7),
        (13, 1, 14),
        (16, 0, 17),
        (19, 1, 20),
        (23, 0, 23),
    ]
    return joined(
        "With a table that has versions: that of the left's time, and none while there is no row",
        lambda left, right: left.join(
            right.to_table("k", versioned=True, deleted=col("ts") == 14), on="k", how="left"
        ),
        seen,
        gone=14,
    )


def lookup_join() -> Lanes:
    job = sf.Job("looked up")
    left = job.read(
        sf.source(endless, schema={"k": pl.String, "ts": pl.Int64}), event_time=sf.epoch("ts", unit="s")
    ).named("left")
    rows = [{"k": "a", "ts": 5}, {"k": "c", "ts": 15}]
    left.join(pl.DataFrame(rows), on="k", how="left").collect()
    with TestJob(job, watermarks="job") as t:
        lanes = Lanes(
            t,
            "With a frame: each row is looked up when it comes, and waits for nothing",
            ("left", "frame"),
            label=lambda row: row["k"],
            pair=lambda row: (row["ts"], row["ts_right"]),
        )
        for row in rows:
            lanes.known(1, row)
        for at, (key, time) in enumerate([("a", 2), ("b", 6), ("c", 10), ("a", 14), ("c", 18)], 1):
            lanes.record(at, 0, {"k": key, "ts": time})
        return lanes.end(6)


def asof_join() -> Lanes:
    return joined(
        "As of the left's time: the right's last row, and none before the first",
        lambda left, right: left.join_asof(right, on="k"),
        [(2, 0, 2), (4, 1, 4), (7, 0, 7), (10, 0, 9), (12, 1, 13), (13, 0, 11), (16, 0, 17), (20, 1, 20)],
    )


def table_join() -> Lanes:
    return joined(
        "With the table as it is now: the row that came last, whatever its time",
        lambda left, right: left.join(right.to_table("k"), on="k", how="left"),
        [(2, 0, 2), (4, 1, 4), (7, 0, 7), (10, 0, 9), (12, 1, 13), (13, 0, 11), (16, 0, 17), (20, 1, 20)],
    )


def changing_join() -> Lanes:
    return joined(
        "Of two changing tables, how=left: what stands, and is taken back",
        lambda left, right: (
            left.to_table("k").changes().join(right.to_table("k").changes(), on="k", how="left")
        ),
        [(2, 0, 2), (5, 1, 6), (12, 1, 13), (18, 0, 18)],
    )


def window_join() -> Lanes:
    return joined(
        "By windows of 10 s, how=outer: when the window closes",
        lambda left, right: left.join(right, on="k", window=sf.tumbling("10s"), how="outer"),
        [(2, 0, 2), (4, 1, 7), (8, 0, 8), (13, 1, 14), (19, 0, 23), (24, 1, 27), (28, 0, 33), (31, 1, 38)],
    )


def session_join() -> Lanes:
    return joined(
        "By sessions with a gap of 5 s, how=outer: rows of both sides make them",
        lambda left, right: left.join(right, on="k", window=sf.session(gap="5s"), how="outer"),
        [(2, 0, 2), (4, 1, 6), (8, 0, 9), (13, 1, 17), (15, 0, 16), (22, 1, 24), (25, 0, 32), (31, 1, 37)],
    )


def pattern() -> Drawing:
    small = sf.pattern("small", col("amount") < 10).then("large", col("amount") > 500).within("10s")

    def matches(events: sf.Stream) -> sf.Stream:
        found = events.key_by(pl.lit("all").alias("key")).match(small)
        bounds = {"window_start": col("match_start"), "window_end": col("match_end")}
        return found.select("small", "large", **bounds)

    return drawn(
        "A small amount and a large one within 10 s",
        matches,
        [
            (1, 2, 5),
            (3, 6, 80),
            (5, 9, 900),
            (7, 8, 7),
            (9, 13, 60),
            (13, 16, 3),
            (19, 22, 50),
            (24, 28, 700),
        ],
        columns=("ts", "amount"),
        label=lambda row: row["amount"],
        result=lambda row: f"{row['small']['amount']} → {row['large']['amount']}",
        until=27,
    )


def absence() -> Drawing:
    unpaid = (
        sf.pattern("placed", col("kind") == "placed").not_then("paid", col("kind") == "paid").within("10s")
    )

    def matches(events: sf.Stream) -> sf.Stream:
        return events.key_by("order").match(unpaid).select("order", ts=col("match_start").dt.epoch("s"))

    return drawn(
        "Placed (+) and not paid (−) within 10 s: order 2",
        matches,
        [
            (1, 1, 1, "placed"),
            (4, 6, 2, "placed"),
            (7, 8, 1, "paid"),
            (11, 12, 3, "placed"),
            (16, 15, 3, "paid"),
            (20, 21, 2, "paid"),
            (26, 27, 4, "placed"),
        ],
        columns=("ts", "order", "kind"),
        label=lambda row: f"{'+' if row['kind'] == 'placed' else '−'}{row['order']}",
        result=lambda row: row["order"],
        until=28,
    )


def group() -> Drawing:
    failed = sf.pattern("asked", col("kind") == "?").then("failed", col("kind") == "−")
    given_up = sf.pattern(failed).times(2).then("reset", col("kind") == "reset").within("15s")

    def matches(events: sf.Stream) -> sf.Stream:
        found = events.key_by(pl.lit("all").alias("key")).match(given_up)
        bounds = {"window_start": col("match_start"), "window_end": col("match_end")}
        return found.select("asked", "failed", **bounds)

    return drawn(
        "Asked (?) and failed (−), twice, and then a reset, within 15 s",
        matches,
        [
            (1, 2, "?"),
            (3, 4, "−"),
            (7, 9, "−"),
            (9, 7, "?"),
            (12, 13, "reset"),
            (15, 17, "?"),
            (20, 19, "−"),
            (23, 24, "reset"),
            (27, 28, "?"),
        ],
        columns=("ts", "kind"),
        label=lambda row: row["kind"],
        result=lambda row: f"failed {len(row['failed'])} times",
        until=29,
    )


def tracks(title: str, events: str, sought: Mapping[str, sf.Pattern | tuple[sf.Pattern, str]]) -> Tracks:
    """The matches of patterns in events of one key, each with a rule after a match or without; an event is a letter and
    perhaps a number, and two seconds lie between two, and two more for each dot."""
    rows: list[dict[str, Any]] = []
    time = 0
    for name in events.split():
        time += 2 * (len(name) if name[0] == "." else 1)
        rows += [] if name[0] == "." else [{"key": "k", "ts": time, "name": name, "kind": name[0]}]
    job = sf.Job("tracks")
    keyed = job.read(sf.MemorySource(rows), event_time=sf.epoch("ts", unit="s")).key_by("key")
    found: list[tuple[str, sf.Collected, sf.Collected | None]] = []
    for name, each in sought.items():
        pattern, rule = each if isinstance(each, tuple) else (each, "no_skip")
        matches = keyed.match(pattern, after_match=rule)
        timed = "within" in str(pattern)
        found.append((name, matches.collect(), matches.timed_out.collect() if timed else None))
    job.run()
    drawing = Tracks(title, rows, label=lambda row: row["name"])
    for name, complete, missed in found:
        drawing.matches(name, complete.rows(), missed.rows() if missed is not None else ())
    return drawing


def of(kind: str) -> pl.Expr:
    return col("kind") == kind


A = sf.pattern("a", of("a"))


def contiguity() -> Tracks:
    return tracks(
        "a and then b: nothing between, others between, any between",
        "a1 b1 c a2 c b2 b3",
        {
            "next": A.next("b", of("b")),
            "then": A.then("b", of("b")),
            "then_any": A.then_any("b", of("b")),
        },
    )


def optional() -> Tracks:
    return tracks(
        "a, perhaps b, and then c",
        "a1 b1 c1 . a2 d c2",
        {"optional": A.then("b", of("b")).optional().then("c", of("c"))},
    )


def repetition() -> Tracks:
    some = A.then("b", of("b")).one_or_more()
    return tracks(
        "a, one or more b, and then c",
        "a b1 d b2 b3 c",
        {
            "one_or_more": some.then("c", of("c")),
            "… greedy": some.greedy().then("c", of("c")),
            "… consecutive": some.consecutive().then("c", of("c")),
            "… combinations": some.combinations().then("c", of("c")),
            "times(2)": A.then("b", of("b")).times(2).then("c", of("c")),
        },
    )


def until_event() -> Tracks:
    some = A.then("b", of("b")).one_or_more()
    return tracks(
        "a and one or more b, until there is an x",
        "a b1 b2 x b3",
        {"one_or_more": some, "… until": some.until(of("x"))},
    )


def absence_between() -> Tracks:
    return tracks(
        "a and c, and no x behind a",
        "a1 x c1 . a2 d x c2 . a3 d c3",
        {
            "then": A.then("c", of("c")),
            "not_next, then": A.not_next("x", of("x")).then("c", of("c")),
            "not_then, then": A.not_then("x", of("x")).then("c", of("c")),
        },
    )


def timed_out() -> Tracks:
    return tracks(
        "a, b and c within 8 s; what is not complete by then is timed out",
        "a1 b1 c1 . a2 b2 ... c2",
        {"within 8 s": A.then("b", of("b")).then("c", of("c")).within("8s")},
    )


def between_events() -> Tracks:
    return tracks(
        "a, and one or more b: less than 5 s behind it, and less than 3 s apart",
        "a1 b1 b2 . b3 . a2 .. b4",
        {"within=, gap=": A.then("b", of("b"), within="5s").one_or_more(gap="3s")},
    )


def after_match() -> Tracks:
    some = A.one_or_more().consecutive().greedy().next("b", of("b"))
    rules = ("no_skip", "skip_to_next", "skip_past_last", "skip_to_first:a", "skip_to_last:a")
    return tracks(
        "One or more a, and b: what a match takes away",
        "a1 a2 a3 b",
        {rule: (some, rule) for rule in rules},
    )


def earlier_steps() -> Tracks:
    higher = of("p") & (col("name") > sf.step("from").name)
    return tracks(
        "A price, and the first one that is higher",
        "p3 p2 p1 p4 p2",
        {"then": sf.pattern("from", of("p")).then("higher", higher)},
    )


PICTURES: list[Callable[[], Drawing | Lanes | Tracks]] = [
    calendar,
    offset,
    semi_join,
    anti_join,
    versioned_join,
    lookup_join,
    contiguity,
    optional,
    repetition,
    until_event,
    absence_between,
    timed_out,
    between_events,
    after_match,
    earlier_steps,
    cumulative,
    early_late,
    early_discarding,
    early_retracting,
    by_count,
    by_clock,
    by_any,
    by_all,
    in_turn,
    until_the_end,
    once,
    never,
    count_windows,
    own_windows,
    global_window,
    deduplicate_first,
    deduplicate_last,
    sort,
    top_k,
    tumbling,
    lateness,
    sliding,
    sessions,
    quiet,
    interval_join,
    asof_join,
    table_join,
    changing_join,
    window_join,
    session_join,
    pattern,
    absence,
    group,
]


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_is_what_a_run_draws(picture: Callable[[], Drawing | Lanes | Tracks]) -> None:
    path = FOLDER / f"{picture.__name__}.svg"
    svg = picture().svg()
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(svg, encoding="utf-8")
    assert svg == path.read_text(encoding="utf-8")


def test_each_picture_is_drawn_from_a_run_and_on_a_page() -> None:
    drawn = {f"{picture.__name__}.svg" for picture in PICTURES}
    assert {path.name for path in FOLDER.iterdir()} == drawn
    pages = "".join(page.read_text(encoding="utf-8") for page in FOLDER.parent.glob("*.md"))
    assert [name for name in sorted(drawn) if f"(pictures/{name})" not in pages] == []


def test_a_late_record_is_in_no_result() -> None:
    # 8 comes when the watermark has passed 10 + 3: it is in no pane, and a cross.
    drawing = tumbling()
    assert [(pane.start, pane.text) for pane in drawing.panes] == [(0, "4"), (10, "2")]
    assert 'class="late"' in drawing.svg()
    # The lateness takes it up, into a second result of its window.
    assert [(pane.start, pane.text) for pane in lateness().panes] == [(0, "4"), (0, "5"), (10, "2")]
