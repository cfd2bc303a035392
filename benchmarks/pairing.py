"""Two programs in turn (A B A B …), and the ratios of their speeds.

A ratio is taken per pair and then the median over the pairs, so that a machine that slows down for a while
slows both. With a second, smaller size the slope is taken as well: time per additional event, which leaves
start-up out.
"""

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.program import Measurement, Program
from benchmarks.verify import Verifier


@dataclass(frozen=True)
class Pair:
    """One round: both programs over the larger file and, for a slope, over the smaller."""

    ours: Measurement
    theirs: Measurement
    ours_small: Measurement | None = None
    theirs_small: Measurement | None = None

    @property
    def slope_ratio(self) -> float | None:
        if self.ours_small is None or self.theirs_small is None:
            return None
        return (self.theirs.whole - self.theirs_small.whole) / (self.ours.whole - self.ours_small.whole)

    @property
    def processor_ratio(self) -> float | None:
        """As the slope, in processor time: other work on the machine disturbs it least."""
        if self.ours_small is None or self.theirs_small is None:
            return None
        return (self.theirs.cpu - self.theirs_small.cpu) / (self.ours.cpu - self.ours_small.cpu)


@dataclass(frozen=True)
class Comparison:
    """All rounds of one pair of programs. Ratios above 1: ours is the faster one."""

    ours: Program
    theirs: Program
    pairs: list[Pair]

    @property
    def inside(self) -> float:
        """Ratio of the times from ready to result."""
        return median(pair.theirs.seconds / pair.ours.seconds for pair in self.pairs)

    @property
    def whole(self) -> float:
        """Ratio of whole-process times."""
        return median(pair.theirs.whole / pair.ours.whole for pair in self.pairs)

    @property
    def slope(self) -> float | None:
        """Ratio of the times per additional event; None without a second size."""
        slopes = [pair.slope_ratio for pair in self.pairs if pair.slope_ratio is not None]
        return median(slopes) if slopes else None

    @property
    def processor(self) -> float | None:
        """Ratio of the processor times per additional event; None without a second size."""
        ratios = [pair.processor_ratio for pair in self.pairs if pair.processor_ratio is not None]
        return median(ratios) if ratios else None

    def rate(self, whose: str) -> float:
        """Median events per second, inside: `ours` or `theirs`."""
        return median(m.events / m.seconds for m in self._of(whose))

    def whole_rate(self, whose: str) -> float:
        """Median events per second of the whole process."""
        return median(m.events / m.whole for m in self._of(whose))

    def peak_mb(self, whose: str) -> float:
        """Median peak memory."""
        return median(m.peak_mb for m in self._of(whose))

    def _of(self, whose: str) -> list[Measurement]:
        return [getattr(pair, whose) for pair in self.pairs]


def compare(
    ours: Program,
    theirs: Program,
    sources: tuple[Path, ...],
    *,
    rounds: int,
    verifier: Verifier,
    warm_up: bool = True,
) -> Comparison:
    """Runs both over the first source (and, for a slope, over the second, smaller one) in turn."""
    if warm_up:
        verifier.measure(ours, sources[0])
        verifier.measure(theirs, sources[0])
    pairs = []
    for _ in range(rounds):
        measured = [verifier.measure(program, source) for source in sources for program in (ours, theirs)]
        pairs.append(Pair(*measured))
    return Comparison(ours, theirs, pairs)
