"""Decisions that follow from the marker that is found."""

import pytest

from streamflow.operators.connectors.kafka.marker import (
    Marker,
    PublishedByOthersError,
    decide,
    decide_restored,
)


def marker(epoch, digest="d", line="line", incarnation="i"):
    return Marker(epoch=epoch, line=line, digest=digest, incarnation=incarnation)


def test_a_marker_is_read_as_it_was_written():
    assert Marker.read(marker(7).encoded()) == marker(7)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"epoch":"1"}',
        b'{"epoch":1,"line":"a","digest":"","incarnation":"","format":2}',
    ],
)
def test_what_is_no_marker_is_told(value):
    with pytest.raises(PublishedByOthersError):
        Marker.read(value)


def test_a_run_publishes_what_follows_its_own_last_publication():
    assert decide(marker(3, "c"), marker(3, "c"), marker(4, "d")) == "publish"


def test_what_is_public_is_not_published_again_whoever_did_it():
    assert decide(marker(4, "d", incarnation="other"), marker(3, "c"), marker(4, "d")) == "done"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (marker(4, "e"), "another run"),  # the same epoch with other content
        (marker(5, "f"), "another run"),
        (marker(3, "x"), "another run"),
        (marker(3, "c", line="other"), "another run"),
        (marker(9, "c", line="other"), "another run"),
        (marker(2, "b"), "lost records"),
        (None, "lost records"),
    ],
)
def test_a_run_whose_place_is_taken_stops(found, says):
    with pytest.raises(PublishedByOthersError, match=says):
        decide(found, marker(3, "c"), marker(4, "d"))


def restored(found, *, epoch=4, parent=3, sealed=True, allow_duplicates=False):
    return decide_restored(
        found, marker(epoch, "d"), parent=parent, sealed=sealed, allow_duplicates=allow_duplicates
    )


@pytest.mark.parametrize(
    ("found", "options", "decision"),
    [
        (marker(4, "d"), {}, "done"),
        (marker(3, "c"), {}, "publish"),
        (marker(0, ""), {"parent": None}, "publish"),
        (marker(4, "other"), {"sealed": False}, "done"),  # a savepoint: what it had is public
        (marker(3, "c"), {"sealed": False}, "publish"),
        (None, {"sealed": False}, "publish"),  # the sink is new
        (marker(4, "d"), {"allow_duplicates": True}, "done"),
        (marker(9, "x"), {"allow_duplicates": True}, "publish"),
        (marker(4, "d", line="other"), {"allow_duplicates": True}, "publish"),
        (None, {"allow_duplicates": True}, "publish"),
    ],
)
def test_a_restored_run(found, options, decision):
    assert restored(found, **options) == decision


@pytest.mark.parametrize(
    ("found", "options", "says"),
    [
        (marker(5, "e"), {}, "epoch 5 is public"),
        (marker(5, "e"), {"sealed": False}, "epoch 5 is public"),
        (marker(4, "e"), {}, "epoch 4 is public"),
        (marker(3, "c"), {"parent": 2}, "epoch 3 is public"),
        (marker(2, "b"), {}, "lost records"),
        (None, {}, "lost records"),
        (marker(3, "c", line="other"), {}, "another line"),
    ],
)
def test_a_restored_run_to_which_the_output_does_not_fit(found, options, says):
    with pytest.raises(PublishedByOthersError, match=says) as caught:
        restored(found, **options)
    assert caught.value.hint
