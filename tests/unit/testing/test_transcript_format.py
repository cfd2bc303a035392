"""Transcripts that are no transcripts: each mistake is named, with the file and the step. Files are not trusted."""

from pathlib import Path

import pytest

from streamflow.errors import JobDefinitionError
from streamflow.testing import TranscriptError, run_transcript

GOOD = """
job:
  window: {tumbling: 10s}
steps:
  - events: [[1, a, 2]]
  - end: true
    panes: [{key: a, window: [0, 10], total: 2}]
"""


def run(folder: Path, text: str) -> None:
    file = folder / "case.yaml"
    file.write_text(text, encoding="utf-8")
    run_transcript(file)


def test_the_good_one_is_good(tmp_path: Path) -> None:
    run(tmp_path, GOOD)


def test_a_mismatch_shows_the_step_and_both_sides(tmp_path: Path) -> None:
    with pytest.raises(TranscriptError) as raised:
        run(tmp_path, GOOD.replace("total: 2", "total: 3"))
    assert str(raised.value).splitlines() == [
        "case, step 2 (end):",
        "  missing pane: a [0, 10) total=3",
        "  unexpected pane: a [0, 10) total=2",
    ]


@pytest.mark.parametrize(
    "changes", [[("total: 2", "total: '2'")], [("[1, a, 2]", "[1, ~, 2]"), ("key: a", "key: None")]]
)
def test_a_text_is_no_other_value(tmp_path: Path, changes: list[tuple[str, str]]) -> None:
    text = GOOD
    for before, after in changes:
        text = text.replace(before, after)
    with pytest.raises(TranscriptError, match="missing pane"):
        run(tmp_path, text)


def test_a_transcript_that_should_fail_and_does_not_fails(tmp_path: Path) -> None:
    with pytest.raises(TranscriptError, match="wrong on purpose, and it was not noticed"):
        run(tmp_path, GOOD + "expect_failure: true\n")


def test_an_error_of_the_job_is_not_the_failure_expected(tmp_path: Path) -> None:
    text = GOOD.replace("[[1, a, 2]]", "[[1, a, two]]") + "expect_failure: true\n"
    with pytest.raises(JobDefinitionError, match=r"'value' is 'two' \(str\), not Int64"):
        run(tmp_path, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("window:", "windo:"), "no key of a job 'windo'"),
        (("tumbling", "tumblng"), "no key of a window 'tumblng'"),
        (("steps:", "stages:"), "did you mean 'steps'"),
        (("panes", "pane"), "step 2: no key of a step 'pane'"),
        (("end: true", "end: true\n    watermark: 5"), "step 2: a step does one thing, this one 2"),
        (("end: true", "dropped: 0"), "step 2: a step does one thing, this one 0"),
        (("[[1, a, 2]]", "[[1]]"), r"step 1: \[1\] is not an event"),
        (("[[1, a, 2]]", "5"), "step 1: 5 is not a list of events"),
        (("[[1, a, 2]]", "[[noon, a, 2]]"), "'noon' is not a time"),
        (("[[1, a, 2]]", "[[1, a, 2]]\n    late: [[9, z, 9]]"), "step 1: late records are expected and"),
        (("[0, 10]", "[0]"), r"window \[0\] has no two bounds"),
        (("10s", "-10s"), "longer than zero"),
        (("10s}", "10s}\n  trigger: often"), "no key of a trigger 'often'"),
        (("10s}", "10s}\n  aggregates: {n: cout}"), "no aggregate 'cout'.*did you mean 'count'"),
        (("10s}", "10s}\n  time_unit: day"), "time_unit is 'day'"),
        (("10s}", "10s}\n  accumulation: all"), "accumulation is 'all'"),
        (("10s}", "10s}\n  inputs: [x, y]"), "step 1: events without an input"),
        (("job:", "job: {}\njob:"), "'job' is given twice"),
        (("[[1, a, 2]]", "&x [[1, a, 2]]\n    late: *x"), "no aliases"),
        (("[[1, a, 2]]", "!!python/object/apply:os.getcwd []"), "no YAML"),
        (("[[1, a, 2]]", "[[1, a, 2"), "no YAML"),
        (("10s}", "10s}\n  late_output: 'false'"), "late_output is 'false'"),
        (("10s}", "10s}\n  pane_info: 1"), "pane_info is 1"),
        (("job:", "expect_failure: 'false'\njob:"), "expect_failure is 'false'"),
        (("10s}", "10s}\n  splits: two"), "splits is 'two'"),
        (("10s}", "10s}\n  inputs: []"), "there are no inputs"),
        (("end: true", "end: true\n    dropped: 0.9"), "step 2: dropped is 0.9"),
        (("end: true", "end: true\n    dropped: x"), "step 2: dropped is 'x'"),
        (("end: true", "end: true\n    window_watermark: .inf"), "step 2: inf is no time"),
        (("panes: [{key: a, window: [0, 10], total: 2}]", "panes: {}"), "step 2: {} is not a list of panes"),
        (("{key: a,", "{1: a,"), "step 2: a key of a pane is 1"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    step, _, said = message.partition(": ") if message.startswith("step") else ("", "", message)
    with pytest.raises(JobDefinitionError, match=said) as raised:
        run(tmp_path, GOOD.replace(*change))
    assert f"split case.yaml, {step}" in f"{raised.value.where}, "


def test_a_missing_file_and_one_too_large(tmp_path: Path) -> None:
    with pytest.raises(JobDefinitionError, match="cannot be read"):
        run_transcript(tmp_path / "none.yaml")
    large = tmp_path / "large.yaml"
    large.write_text("#" * (1 << 20) + GOOD, encoding="utf-8")
    with pytest.raises(JobDefinitionError, match="at most 1048576 are read"):
        run_transcript(large)
