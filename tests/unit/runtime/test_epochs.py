"""The epoch coordinator's decisions: what begins, what is complete, what is committed with it."""

from hypothesis import given
from hypothesis import strategies as st

from streamflow.runtime.epochs import Commit, EpochCoordinator

A = ("out", {"file": "a"})
B = ("out", {"file": "b"})
C = ("other", {"file": "c"})


def test_an_epoch_is_complete_when_all_have_acknowledged_it() -> None:
    c = EpochCoordinator(["read", "window"])
    assert c.begin() == 1
    assert c.acknowledge("window", 1, [A]) is None
    assert c.acknowledge("read", 1, []) == Commit(1, (A,))


def test_one_epoch_at_a_time_until_its_commit_is_done() -> None:
    c = EpochCoordinator(["read"])
    assert c.begin() == 1
    assert c.begin() is None
    c.acknowledge("read", 1, [])
    assert c.in_flight
    assert c.begin() is None
    assert c.committed() is None
    assert not c.in_flight
    assert c.begin() == 2


def test_what_a_task_sealed_at_its_end_goes_with_the_next_epoch() -> None:
    c = EpochCoordinator(["read", "window"])
    assert c.finish("read", [B]) is None
    assert c.begin() == 1
    assert c.acknowledge("window", 1, [A]) == Commit(1, (B, A))


def test_a_task_that_ends_within_an_epoch_is_not_waited_for() -> None:
    c = EpochCoordinator(["read", "window"])
    c.begin()
    assert c.acknowledge("window", 1, [A]) is None
    assert c.finish("read", [C]) == Commit(1, (A, C))
    assert c.committed() is None
    assert c.begin() == 2


def test_the_last_to_finish_commits_the_rest() -> None:
    c = EpochCoordinator(["read", "window"])
    assert c.finish("read", []) is None
    assert not c.finished
    assert c.finish("window", [A]) == Commit(1, (A,))
    assert c.finished
    assert c.begin() is None


def test_a_job_that_sealed_nothing_still_has_its_last_commit() -> None:
    assert EpochCoordinator(["read"]).finish("read", []) == Commit(1, ())


def test_what_is_sealed_while_a_commit_is_under_way_comes_after_it() -> None:
    c = EpochCoordinator(["read", "window"])
    c.begin()
    c.acknowledge("read", 1, [])
    assert c.acknowledge("window", 1, [A]) == Commit(1, (A,))
    assert c.finish("read", []) is None
    assert c.finish("window", [B]) is None
    assert c.committed() == Commit(2, (B,))
    assert c.committed() is None


def test_epochs_go_on_from_where_an_earlier_run_was() -> None:
    assert EpochCoordinator(["read"], last_epoch=7).begin() == 8


@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "acknowledge", "finish", "committed"]), st.integers(0, 2)),
        max_size=60,
    )
)
def test_everything_sealed_is_committed_once_and_in_order(words: list[tuple[str, int]]) -> None:
    """Whatever the order of events: epochs complete one at a time, and nothing sealed is lost or committed twice."""
    names = ["a", "b", "c"]
    c = EpochCoordinator(names)
    owing: set[str] = set()
    running = set(names)
    sealed, committed, number = [], [], 0
    pending: list[Commit] = []

    def note(commit: Commit | None) -> None:
        if commit is not None:
            pending.append(commit)
            committed.extend(commit.sealed)

    for word, index in [*words, *[("finish", i) for i in range(3)], ("committed", 0), ("committed", 0)]:
        name = names[index]
        entry = ("out", {"n": number})
        if word == "begin" and c.begin() is not None:
            owing = set(running)
        elif word == "acknowledge" and name in owing:
            owing.discard(name)
            sealed.append(entry)
            number += 1
            note(c.acknowledge(name, c.epoch, [entry]))
        elif word == "finish" and name in running:
            running.discard(name)
            owing.discard(name)
            sealed.append(entry)
            number += 1
            note(c.finish(name, [entry]))
        elif word == "committed" and pending:
            pending.pop()
            note(c.committed())
        assert len(pending) <= 1
    assert committed == sealed
    assert not running
