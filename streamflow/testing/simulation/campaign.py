"""`simulate`: many seeds of one job, each a life with crashes; the first that fails is shrunk and reported.

In tests `simulate(job, seeds=200)` raises AssertionError. The command line runs the same over several processes.

The order in which Polars gives groups is made repeatable, so that a seed is one run: without `maintain_order` it
differs between processes. Results do not depend on it, but contents do, and with them the files that the checkpoint
store finds again.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

import polars as pl

from streamflow.api.job import Job
from streamflow.arguments import whole_number
from streamflow.errors import JobDefinitionError
from streamflow.testing.simulation.report import Failure, Simulation
from streamflow.testing.simulation.run import Outcome, expected_results, run_schedule, survey
from streamflow.testing.simulation.scenario import Beside, OwnSink, Results, Scenario
from streamflow.testing.simulation.schedule import Odds, Schedule, draw
from streamflow.testing.simulation.shrink import shrink
from streamflow.time.clock import Clock, SystemClock
from streamflow.time.timestamps import Duration

__all__ = ["Campaign", "repeatable", "simulate"]

_COLLECT_EVERY = 50
"""Lives between two collections of garbage, which is left alone during them."""


def simulate(
    job: Job | Callable[[], Job],
    *,
    seeds: int | Sequence[int] = 100,
    rows: int = 200,
    key: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
    tolerance: float = 1e-9,
    keep_order: bool = False,
    sinks: Mapping[str, OwnSink] | None = None,
    sources: Collection[str] = (),
    beside: Sequence[Beside] = (),
    odds: Mapping[str, Any] | None = None,
    late: Duration = "0s",
    processes: int = 1,
    **settings: Any,
) -> Simulation:
    """Runs a job through seeded lives with crashes, restores, rescalings and failing disks; returns the counts.

    Each seed permutes the input within the declared disorder bound, deals it to splits, and runs the job in
    streaming or micro-batch mode under virtual time on a simulated disk: processes crash at named points, disk calls
    or any step, and the next continues from the newest checkpoint at another parallelism, until the job ends. The
    final results have to be those of an undisturbed batch run (`key` and `tolerance` as in `check_modes_agree`). The
    sources are read once, the first `rows` records of each; the sinks are replaced, so that nothing is written.
    `keep_order` leaves records in the order in which they were read, for jobs whose results depend on it. `seeds` is
    a count, or the seeds. `sinks` gives sinks of one's own to prove, by the sink's id: (sink, function that reads
    its output from the disk). `sources` are the ids of sources that are not replaced: they read simulated systems (a
    topic of a `SimLog`). `beside` are systems beside the job that outlive its processes, like a `SimLog` for a
    KafkaSink. `late`: how far behind the disorder bound records may come, for windows with allowed lateness. `odds`
    are fields of `Odds`: the probabilities of disturbances. With several `processes` the subtasks are in up to as many
    workers beside the coordinator, over a network that is slow and may be cut; workers are killed, lost with their
    machines and held up as well.

    Raises AssertionError with the first failing seed, the simplest life found that still fails, and the way to
    replay it; and errors of building the job or reading its sources.

    >>> import streamflow as sf
    >>> job = sf.Job("totals")
    >>> rows = job.read(sf.MemorySource([{"k": "a", "v": 1}, {"k": "a", "v": 2}]))
    >>> _ = rows.key_by("k").aggregate(total=sf.sum("v")).collect()
    >>> simulate(job, seeds=3).failures
    []
    """
    listed: object = range(seeds) if isinstance(seeds, int) else seeds
    if not isinstance(listed, Sequence) or not all(isinstance(each, int) for each in listed):
        raise JobDefinitionError(f"seeds is {seeds!r}", hint="give a count of at least 1, or a list of seeds")
    if not listed:
        raise JobDefinitionError(
            f"seeds={seeds!r} proves nothing", hint="give a count of at least 1, or the seeds"
        )
    campaign = Campaign(
        job,
        rows=whole_number(rows, "rows"),
        key=key,
        tolerance=tolerance,
        keep_order=keep_order,
        sinks=sinks,
        sources=sources,
        beside=beside,
        odds=odds,
        late=late,
        processes=whole_number(processes, "processes"),
        settings=settings,
    )
    for _ in campaign.run(listed):
        if campaign.simulation.failures:
            failure = campaign.simulation.failures[0]
            raise AssertionError(failure.text(f"simulate(job, seeds=[{failure.seed}])"))
    return campaign.simulation


class Campaign:
    """A job, its expected results and its crash points: everything that one process needs to run seed after seed.
    `options` are those of `Scenario`."""

    def __init__(
        self,
        job: Job | Callable[[], Job],
        *,
        odds: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        processes: int = 1,
        **options: Any,
    ) -> None:
        self._scenario = Scenario(job, **options)
        self._clock = clock or SystemClock()
        self._expected: dict[tuple[Any, ...], Results] = {}
        self._lives = 0
        samples = self._scenario.samples
        self.simulation = Simulation(
            self._scenario.graph.job,
            rows={id: len(sample) for id, sample in samples.items()},
            sampled=[id for id, sample in samples.items() if not sample.all],
        )
        with repeatable():
            self._of(Schedule(-1, ()))
            # A life on one worker is of interest only beside those on several.
            workers = processes if processes > 1 else 0
            self.odds: Odds = survey(self._scenario, **{"workers": workers, **(odds or {})})

    def run(self, seeds: Sequence[int], *, shrinking: bool = True) -> Iterator[Outcome]:
        """Runs these seeds, one at each step, and counts them in `simulation`."""
        began = self._clock.monotonic()
        self.simulation.first = seeds[0] if seeds else 0
        for seed in seeds:
            with repeatable():
                outcome = self.outcome(draw(seed, self.odds))
                self.simulation.add(outcome)
                if outcome.failure is not None:
                    self.simulation.failures.append(self._told(outcome, shrinking=shrinking))
            self.simulation.seconds = self._clock.monotonic() - began
            yield outcome

    def outcome(self, schedule: Schedule) -> Outcome:
        """The outcome of one schedule."""
        self._lives += 1
        if self._lives % _COLLECT_EVERY == 0:
            gc.collect()
        return run_schedule(self._scenario, schedule, self._of(schedule))

    def _of(self, schedule: Schedule) -> Results:
        key = tuple(sorted(schedule.rows.items()))
        if key not in self._expected:
            self._expected[key] = expected_results(self._scenario, schedule.rows)
        return self._expected[key]

    def _told(self, outcome: Outcome, *, shrinking: bool) -> Failure:
        if not shrinking:
            return Failure(outcome.schedule.seed, outcome.failure or "", outcome.digest)
        sizes = {id: len(sample) for id, sample in self._scenario.samples.items()}
        simplest, tries = shrink(outcome, self.outcome, sizes)
        return Failure.of(outcome, simplest, tries)


_UNORDERED: Final = [
    (frame, name) for frame in (pl.DataFrame, pl.LazyFrame) for name in ("group_by", "unique")
]


@contextmanager
def repeatable() -> Generator[None]:
    """A context in which Polars gives the same order each time, and no garbage is collected by itself: coroutines of an
    earlier life would run their last blocks in the middle of another one.

    Warnings about coroutines that were never awaited are left out: abandoned processes leave some.

    >>> with repeatable():
    ...     pl.DataFrame({"k": list("dcbadcba")}).group_by("k").len()["k"].to_list()
    ['d', 'c', 'b', 'a']
    """
    before = [getattr(frame, name) for frame, name in _UNORDERED]
    collecting = gc.isenabled()
    gc.disable()
    try:
        for (frame, name), method in zip(_UNORDERED, before, strict=True):
            setattr(frame, name, _in_order(method))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*was never awaited", category=RuntimeWarning)
            yield
    finally:
        for (frame, name), method in zip(_UNORDERED, before, strict=True):
            setattr(frame, name, method)
        if collecting:
            gc.enable()


def _in_order(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def ordered(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **{**kwargs, "maintain_order": True})

    return ordered
