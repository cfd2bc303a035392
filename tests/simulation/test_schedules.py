"""Schedules: drawn from a seed alone, told in words, made simpler while they fail."""

from __future__ import annotations

from collections import Counter

from streamflow.testing.simulation.disk import DiskFault
from streamflow.testing.simulation.points import ANY_CALL, ANY_STEP, CrashAt
from streamflow.testing.simulation.run import Outcome
from streamflow.testing.simulation.schedule import Incarnation, Odds, Rot, Schedule, draw
from streamflow.testing.simulation.shrink import shrink

ODDS = Odds(points={"commit.before": 4, "manifest.named": 5, ANY_STEP: 900, ANY_CALL: 300})


def test_a_seed_is_a_schedule():
    assert [draw(seed, ODDS) for seed in range(50)] == [draw(seed, ODDS) for seed in range(50)]
    assert len({repr(draw(seed, ODDS)) for seed in range(200)}) == 200


def test_seeds_differ_in_everything():
    schedules = [draw(seed, ODDS) for seed in range(400)]
    lives = [life for schedule in schedules for life in schedule.incarnations]
    points = Counter(life.crash.point for life in lives if life.crash is not None)
    assert set(points) == set(ODDS.points)
    assert min(points.values()) > 40
    assert {life.parallelism for life in lives} == {1, 2, 3, 4}
    assert {life.crash.loss for life in lives if life.crash is not None} == {"kill", "power"}
    assert {fault.kind for life in lives for fault in life.faults} == {"full", "broken", "sync"}
    assert any(life.rot for life in lives)
    assert any(life.clock_jump for life in lives)
    assert {len(schedule.incarnations) for schedule in schedules} == {1, 2, 3, 4}
    assert {schedule.splits for schedule in schedules} == {1, 2, 3}
    assert {schedule.mode for schedule in schedules} == {"streaming", "micro-batch"}


def test_odds_of_nothing_are_a_quiet_life():
    odds = Odds(points=ODDS.points, crashes=0, faults=0, rot=0, clock_jumps=0)
    for seed in range(50):
        (life,) = draw(seed, odds).incarnations
        assert life == Incarnation(life.parallelism)


A_LIFE = Schedule(
    4711,
    (
        Incarnation(3, CrashAt("manifest.named", 1, "power"), (DiskFault("full", 12, 5),)),
        Incarnation(2, CrashAt("commit.before", 2, "power"), rot=Rot(3, 1), clock_jump=-5_000_000),
        Incarnation(4, CrashAt(ANY_STEP, 100, "kill")),
    ),
    mode="micro-batch",
    splits=3,
)


def test_words_tell_what_matters():
    assert "\n".join(A_LIFE.words()) == (
        "micro-batch mode, 3 splits per source, batches of up to 8 rows, a checkpoint every 50 ms\n"
        "process 1: parallelism 3, the disk is full at write 12 to 16, ends by a power failure at manifest.named "
        "(time 1)\n"
        "process 2: parallelism 2, one bit of a stored checkpoint has turned over, the wall clock is wrong by -5 s, "
        "ends by a power failure at commit.before (time 2)\n"
        "process 3: parallelism 4, ends by a kill at any step (time 100)\n"
        "process 4: parallelism 4, nothing befalls it"
    )


def test_shrinking_finds_what_it_takes_to_fail():
    def run(schedule: Schedule) -> Outcome:
        crashed = any(
            life.crash is not None and life.crash.point == "commit.before" for life in schedule.incarnations
        )
        rows = schedule.rows.get("read-1", range(40))
        failure = "lost" if crashed and 17 in rows and 23 in rows else None
        return Outcome(schedule, failure, "", 1, refused=False)

    simplest, tried = shrink(run(A_LIFE), run, {"read-1": 40})
    assert simplest.failure == "lost"
    assert simplest.schedule.incarnations == (Incarnation(1, CrashAt("commit.before", 2, "kill")),)
    assert set(simplest.schedule.rows["read-1"]) == {17, 23}
    assert (simplest.schedule.mode, simplest.schedule.splits) == ("streaming", 1)
    assert tried < 100


def test_shrinking_gives_up_in_time():
    def run(schedule: Schedule) -> Outcome:
        return Outcome(schedule, "always", "", 1, refused=False)

    _, tried = shrink(run(A_LIFE), run, {"read-1": 1_000_000}, tries=7)
    assert tried == 7


def test_words_name_the_records():
    schedule = Schedule(1, (Incarnation(1),), rows={"read-1": (0, 1, 2, 7, 9, 10)})
    assert schedule.words()[1:] == [
        "only these records of read-1: 0–2, 7, 9–10",
        "process 1: parallelism 1, nothing befalls it",
    ]
