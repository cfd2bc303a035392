"""Finding a job in a user's file, and what is said where there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from streamflow.cli.loading import NoJobError, load
from streamflow.errors import ConfigError, JobDefinitionError, StreamflowError

JOB = 'import streamflow as sf\njob = sf.Job("words")\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _refused(target: str, kind: type[StreamflowError] = ConfigError, **given: str) -> str:
    with pytest.raises(kind) as caught:
        load(target, given)
    error = caught.value
    assert type(error) is kind
    # Without the place: a program that calls `load` itself, as this one does, is named in it.
    return f"{error.message}; {error.hint}" if error.hint else error.message


def test_the_one_job_of_a_file_is_found_under_any_name(folder: Path) -> None:
    (folder / "a.py").write_text(f"{JOB}also = job\nother = 1\n")
    for target in ("a.py", "a.py:job", "a.py:also", "a.py:words", str(folder / "a.py")):
        job, runtime = load(target)
        assert (job.name, runtime) == ("words", {})


def test_a_file_may_import_its_neighbour_and_define_rows(folder: Path) -> None:
    (folder / "neighbour_of_a.py").write_text('NAME = "hello"\n')
    (folder / "a.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport streamflow as sf\n"
        "from neighbour_of_a import NAME\n@dataclass\nclass Row:\n    word: str\njob = sf.Job(NAME)\n"
    )
    assert load("a.py")[0].name == "hello"


def test_what_runs_the_job_is_not_run(folder: Path) -> None:
    (folder / "a.py").write_text(f'{JOB}if __name__ == "__main__":\n    raise SystemExit(9)\n')
    assert load("a.py")[0].name == "words"


@pytest.mark.parametrize(
    "run",
    [
        "result = job.run()",
        "import asyncio\nresult = asyncio.run(job.run_async())",
        "try:\n    job.run()\nexcept Exception:\n    ...",
    ],
)
def test_a_file_that_runs_its_job_is_read_up_to_there(
    folder: Path, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = 'out = job.read(sf.MemorySource([{"a": 1}])).collect()'
    (folder / "a.py").write_text(f"{JOB}{out}\n{run}\nprint(out.rows())\n")
    assert load("a.py")[0].name == "words"
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("the file runs its job by itself; this command runs it instead: a.py, line") == 1
    assert 'if __name__ == "__main__":' in shown.err


def test_settings_are_the_file_s_or_the_runtime_s(folder: Path) -> None:
    (folder / "a.py").write_text('import streamflow as sf\njob = sf.Job(sf.setting("called", "words"))\n')
    job, runtime = load("a.py", {"called": "other", "restart_delay": "20ms"})
    assert (job.name, runtime) == ("other", {"restart_delay": "20ms"})


def test_a_setting_nobody_asked_for_is_refused(folder: Path) -> None:
    (folder / "a.py").write_text('import streamflow as sf\njob = sf.Job(sf.setting("called", "words"))\n')
    assert _refused("a.py", caled="x").endswith("did you mean 'called'?")
    assert _refused("a.py", restart_dely="5ms").endswith("did you mean 'restart_delay'?")


def test_a_missing_file(folder: Path) -> None:
    (folder / "delays.py").write_text(JOB)
    assert _refused("delay.py") == "no file delay.py; did you mean delays.py?"
    assert _refused("nowhere/delay.py") == "no file nowhere/delay.py; there is no folder nowhere either"
    assert _refused(".") == ". is a folder; name the Python file that holds the job"


def test_what_is_no_python_file(folder: Path) -> None:
    (folder / "a.txt").write_text(JOB)
    assert _refused("a.txt") == "a.txt is not a Python file; its name must end in .py"


def test_no_job(folder: Path) -> None:
    (folder / "a.py").write_text("job = 1\n")
    assert _refused("a.py", NoJobError) == (
        'a.py has no job; assign one at the top level of the file: job = sf.Job("name")'
    )


def test_several_jobs_have_to_be_told_apart(folder: Path) -> None:
    (folder / "a.py").write_text('import streamflow as sf\none = sf.Job("1st")\ntwo = sf.Job("2nd")\n')
    assert _refused("a.py") == "a.py has 2 jobs: one, two; name one: a.py:one"
    assert _refused("a.py:tow", NoJobError) == "a.py: no job 'tow'; there are: one, two; did you mean 'two'?"
    assert load("a.py:two")[0].name == "2nd"


def test_a_variable_counts_before_the_name_of_a_job(folder: Path) -> None:
    (folder / "a.py").write_text('import streamflow as sf\none = sf.Job("two")\ntwo = sf.Job("one")\n')
    assert [load(f"a.py:{name}")[0].name for name in ("one", "two")] == ["two", "one"]
    (folder / "a.py").write_text('import streamflow as sf\none = sf.Job("x")\ntwo = sf.Job("x")\n')
    assert _refused("a.py:x") == "a.py has 2 jobs called 'x': one, two; name one: a.py:one"


def test_a_file_of_bytes_is_no_python_file(folder: Path) -> None:
    (folder / "a.py").write_bytes(b"\0\1")
    assert _refused("a.py") == "a.py is no Python file: source code string cannot contain null bytes"


def test_a_syntax_error_shows_its_line(folder: Path) -> None:
    (folder / "a.py").write_text("x = 1\nif True:\n    y = = 2\n")
    assert _refused("a.py") == "a.py, line 3: invalid syntax\ny = = 2\n    ^"


def test_an_exception_while_importing_shows_the_user_s_line_only(folder: Path) -> None:
    (folder / "a.py").write_text("import json\ndef parse():\n    return json.loads('{')\nx = parse()\n")
    message = _refused("a.py", JobDefinitionError)
    assert message == (
        "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)\n"
        "a.py, line 3, in parse: return json.loads('{')"
    )


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        ("asyncio.CancelledError()", "CancelledError"),
        ("type('Own', (BaseException,), {})('no')", "Own: no"),
        (
            "type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()",
            "Mute (its text raised ZeroDivisionError)",
        ),
    ],
)
def test_whatever_a_file_raises_is_told_with_its_line(folder: Path, raised: str, message: str) -> None:
    (folder / "a.py").write_text(f"import asyncio\nraise {raised}\n")
    assert _refused("a.py", JobDefinitionError) == f"{message}\na.py, line 2, in <module>: raise {raised}"


def test_a_file_that_goes_to_another_folder_has_its_lines(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "away").mkdir()
    (folder / "a.py").write_text(f"{JOB}import os\nos.chdir('away')\njob.run()\n")
    load("a.py")
    assert f"{folder / 'a.py'}, line 5" in capsys.readouterr().err
    (folder / "a.py").write_text("import os\nos.chdir('away')\n1 / 0\n")
    os.chdir(folder)
    assert f"{folder / 'a.py'}, line 3, in <module>: 1 / 0" in _refused("a.py", JobDefinitionError)


def test_an_error_of_the_job_s_own_shows_where_it_was_built(folder: Path) -> None:
    (folder / "a.py").write_text(
        'import streamflow as sf\njob = sf.Job("words")\nrows = job.read(sf.MemorySource([{"a": 1}]))\n'
        'rows.key_by("b").aggregate(n=sf.count())\n'
    )
    message = _refused("a.py", JobDefinitionError)
    assert "no column 'b'; there are: a" in message
    assert 'a.py, line 4, in <module>: rows.key_by("b").aggregate(n=sf.count())' in message


def test_leaving_while_being_imported(folder: Path) -> None:
    (folder / "a.py").write_text("import sys\nsys.exit(0)\n")
    message = _refused("a.py", JobDefinitionError)
    assert message.startswith(
        "a.py left the program with sys.exit(0) while it was imported; put the line that runs the job"
    )
