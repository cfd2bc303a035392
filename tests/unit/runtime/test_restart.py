"""Restart strategies decide; nothing runs here."""

import pytest

from streamflow.config import Settings
from streamflow.errors import ConfigError, JobDefinitionError, RecordError, SinkError, SourceError, Where
from streamflow.runtime.control.restart import RestartPolicy
from streamflow.state.checkpoints.store import FencedError

GONE = SinkError("the disk is gone")


def policy(kind: str, attempts: int = 3) -> RestartPolicy:
    return RestartPolicy(kind, attempts=attempts, delay=10, longest=35)


def test_fixed_delays_stay_the_same() -> None:
    fixed = policy("fixed")
    assert [fixed.after(GONE, progress=False) for _ in range(4)] == [10, 10, 10, None]
    assert fixed.restarts == 3


@pytest.mark.parametrize("kind", ["exponential", "auto"])
def test_exponential_delays_double_up_to_a_bound(kind: str) -> None:
    doubling = policy(kind, attempts=4)
    assert [doubling.after(GONE, progress=False) for _ in range(5)] == [10, 20, 35, 35, None]


def test_a_checkpoint_in_between_starts_the_count_again() -> None:
    doubling = policy("exponential", attempts=2)
    assert [doubling.after(GONE, progress=p) for p in (False, False, True, False)] == [10, 20, 10, 20]


def test_a_cause_that_comes_back_soon_is_counted_on_although_checkpoints_were_taken() -> None:
    def gone(offset: int, split: str = "a-0") -> SourceError:
        return SourceError(f"offset {offset} is gone", where=Where(split=split))

    counting = policy("exponential", attempts=2)
    assert counting.after(gone(1), progress=True, ran=15) == 10
    assert counting.after(gone(2), progress=True, ran=15) == 20
    assert counting.after(gone(3), progress=True, ran=15) is None
    # Another cause, or a run that has lasted, begins from the start.
    assert counting.after(gone(4, "a-1"), progress=True, ran=15) == 10
    assert counting.after(gone(5, "a-1"), progress=True, ran=3600) == 10


def test_what_no_waiting_helps_against_is_final() -> None:
    class DeletedError(SourceError):
        final = True

    assert policy("fixed").after(DeletedError("the topic is gone"), progress=True) is None


@pytest.mark.parametrize("kind", ["fixed", "exponential", "auto"])
@pytest.mark.parametrize(
    "error", [ConfigError("no"), JobDefinitionError("no"), FencedError("another process runs the job")]
)
def test_what_would_be_the_same_the_next_time_is_final(kind: str, error: Exception) -> None:
    assert policy(kind).after(error, progress=True) is None


def test_a_bad_record_is_tried_again_only_where_that_is_asked_for() -> None:
    error = RecordError("the function raised")
    assert policy("auto").after(error, progress=True) is None
    assert policy("fixed").after(error, progress=True) == 10


def test_without_checkpoints_there_is_nothing_to_start_from() -> None:
    assert RestartPolicy.of(Settings()).after(GONE, progress=False) is None
    with pytest.raises(ConfigError, match="no checkpoints are taken"):
        RestartPolicy.of(Settings(restart="fixed"))
    assert RestartPolicy.of(Settings(checkpoint_dir="c")).after(GONE, progress=False) == 1_000_000
