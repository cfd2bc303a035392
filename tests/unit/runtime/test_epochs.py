"""The epoch coordinator's decisions: what begins, what is complete, what is committed with it."""

from hypothesis import given
from hypothesis import strategies as st

from streamflow.runtime.control.epochs import Complete, EpochCoordinator

A = ("out", {"file": "a"})
B = ("out", {"file": "b"})
C = ("other", {"file": "c"})


def test_an_epoch_is_complete_when_all_have_acknowledged_it() -> None:
    c = EpochCoordinator(["read", "window"])
    assert c.begin() == 1
    assert c.acknowledge("window", 1, [A]) is None
    assert c.acknowledge("read", 1, []) == Complete(1, (A,))


def test_one_epoch_at_a_time_until_its_commit_is_done() -> None:
    c = EpochCoordinator(["read"])
    assert c.begin() == 1
    assert c.begin() is None
    c.acknowledge("read", 1, [])
    assert c.in_flight
    assert c.begin() is None
    assert c.done() is None
    assert not c.in_flight
    assert c.begin() == 2


def test_what_a_task_sealed_at_its_end_goes_with_the_next_epoch() -> None:
    c = EpochCoordinator(["read", "window"])
    assert c.finish("read", [B], passed=0) is None
    assert c.begin() == 1
    assert c.acknowledge("window", 1, [A]) == Complete(1, (B, A))


def test_a_task_that_ends_within_an_epoch_is_not_waited_for() -> None:
    c = EpochCoordinator(["read", "window"])
    c.begin()
    assert c.acknowledge("window", 1, [A]) is None
    assert c.finish("read", [C], passed=0) == Complete(1, (A, C))
    assert c.done() is None
    assert c.begin() == 2


def test_the_last_to_finish_commits_the_rest() -> None:
    c = EpochCoordinator(["read", "window"])
    assert c.finish("read", [], passed=0) is None
    assert not c.finished
    assert c.finish("window", [A], passed=0) == Complete(1, (A,), final=True)
    assert c.finished
    assert c.begin() is None


def test_a_job_that_sealed_nothing_still_has_its_last_commit() -> None:
    assert EpochCoordinator(["read"]).finish("read", [], passed=0) == Complete(1, (), final=True)


def test_what_is_sealed_while_a_commit_is_under_way_comes_after_it() -> None:
    c = EpochCoordinator(["read", "window"])
    c.begin()
    c.acknowledge("read", 1, [])
    assert c.acknowledge("window", 1, [A]) == Complete(1, (A,))
    assert c.finish("read", [], passed=1) is None
    assert c.finish("window", [B], passed=1) is None
    assert not c.over
    assert c.done() == Complete(2, (B,), final=True)
    assert c.done() is None
    assert c.over


def test_what_is_sealed_behind_the_barrier_belongs_to_the_next_epoch() -> None:
    c = EpochCoordinator(["read", "window"])
    c.begin()
    assert c.acknowledge("window", 1, [A]) is None
    # It has passed the barrier and ended; what it stored at the barrier is still on its way.
    assert c.finish("read", [B], passed=1) is None
    assert c.acknowledge("read", 1, [C], "stored") == Complete(1, (A, C), {"read": "stored"})
    assert c.done() is None
    assert c.begin() == 2
    assert c.acknowledge("window", 2, []) == Complete(2, (B,))


def test_output_of_an_epoch_that_failed_comes_with_the_next() -> None:
    c = EpochCoordinator(["read"])
    c.begin()
    error = OSError("disk full")
    assert c.acknowledge("read", 1, [A], failure=error) == Complete(1, (A,), failures=(error,))
    assert c.done(carried=[A]) is None
    assert c.begin() == 2
    assert c.acknowledge("read", 2, [B]) == Complete(2, (A, B))


def test_epochs_go_on_from_where_an_earlier_run_was() -> None:
    assert EpochCoordinator(["read"], last_epoch=7).begin() == 8


@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "pass", "acknowledge", "finish", "done"]), st.integers(0, 2)),
        max_size=60,
    )
)
def test_everything_sealed_is_committed_once(words: list[tuple[str, int]]) -> None:
    """In any order of events epochs complete one at a time, and nothing sealed is lost or committed twice."""
    names = ["a", "b", "c"]
    c = EpochCoordinator(names)
    owing: set[str] = set()
    running = set(names)
    passed = dict.fromkeys(names, 0)
    sealed, committed, number = [], [], 0
    pending: list[Complete] = []

    def note(complete: Complete | None) -> None:
        if complete is not None:
            pending.append(complete)

    endings = [*[("finish", i) for i in range(3)], *[("acknowledge", i) for i in range(3)]]
    for word, index in [*words, *endings, ("done", 1), ("done", 1)]:
        name = names[index]
        entry = ("out", {"n": number})
        if word == "begin" and c.begin() is not None:
            owing = set(running)
        elif word == "pass" and name in owing and name in running:
            passed[name] = c.epoch
        elif word == "acknowledge" and name in owing:
            owing.discard(name)
            passed[name] = c.epoch
            sealed.append(entry)
            number += 1
            note(c.acknowledge(name, c.epoch, [entry]))
        elif word == "finish" and name in running:
            running.discard(name)
            if passed[name] != c.epoch:
                owing.discard(name)
            sealed.append(entry)
            number += 1
            note(c.finish(name, [entry], passed=passed[name]))
        elif word == "done" and pending:
            complete = pending.pop()
            kept = index > 0 or complete.final
            committed.extend(complete.sealed if kept else ())
            note(c.done(carried=() if kept else complete.sealed))
        assert len(pending) <= 1
    assert sorted(map(str, committed)) == sorted(map(str, sealed))
    assert not running
    assert c.over
