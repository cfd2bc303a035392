"""Retention: the choice of the checkpoints that stay."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["begins_generation", "retained"]


def retained(generations: Mapping[int, int], keep: int) -> set[int]:
    """The numbers to keep, of checkpoints given by number and generation: the newest `keep`, and the newest one of
    the generation before theirs. That one shares no bytes on the disk with them, so one rotten file does not damage
    all.

    >>> sorted(retained({7: 1, 8: 1, 9: 1, 10: 10, 11: 10, 12: 10, 13: 10}, keep=3))
    [9, 11, 12, 13]
    """
    newest_first = sorted(generations, reverse=True)
    kept = set(newest_first[: max(keep, 1)])
    if newest_first:
        current = generations[newest_first[0]]
        kept.update([number for number in newest_first if generations[number] < current][:1])
    return kept


def begins_generation(number: int, generation: int | None, every: int) -> bool:
    """Whether this checkpoint begins a new generation, after those of `generation`: every `every`-th does.

    >>> begins_generation(9, 8, every=10), begins_generation(10, 8, every=10), begins_generation(11, 10, every=10)
    (False, True, False)
    """
    return generation is None or number // every > generation // every
