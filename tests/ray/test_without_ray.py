"""The settings of Ray's runner where Ray is not needed to judge them, and where it is missing."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from streamflow.config import Settings
from streamflow.errors import ConfigError
from streamflow.runners.processes.starting import Introduction
from streamflow.runners.program import Program
from tests.processes.running import loaded, write_input


def test_it_says_how_ray_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    write_input(tmp_path)
    job, _ = loaded("columns", tmp_path)
    with pytest.raises(ConfigError, match=r"not installed here; pip install 'streamflow-engine\[ray\]'"):
        asyncio.run(job.run_async(runner="ray", processes=2))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("runner", "rey", "did you mean 'ray'"),
        ("worker_cpus", "none", "a number of cores"),
        ("worker_cpus", 0, "a number of cores"),
        ("worker_memory", "much", "is not a size"),
        ("network_ports", "20100-20000", 'like "20000-20100"'),
        ("network_ports", "65536", 'like "20000-20100"'),
        ("network_tls", "tls.crt,tls.key", "three files"),
        ("network_compression", "zip", "none, lz4"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Settings.resolve({name: value}, environ={})
    assert message in str(raised.value)


def test_a_worker_on_a_host_without_the_file_has_a_copy_of_it(tmp_path: Path) -> None:
    file = tmp_path / "job.py"
    file.write_text("job = 1\n")
    program = Program.of(file, "job").with_content()
    with program.at_hand() as path:
        assert path == file
    file.unlink()
    with program.at_hand() as path:
        assert path != file
        assert (path.name, path.read_text()) == ("job.py", "job = 1\n")
    assert not path.exists()
    file.write_text("job = 2\n")
    with pytest.raises(ConfigError, match="not the file that the job was started with"), program.at_hand():
        ...


def test_an_introduction_never_shows_the_secret(tmp_path: Path) -> None:
    introduction = Introduction(0, 0, "s3cret", 1.0, 1, "INFO", None)
    assert "s3cret" not in f"{introduction}{introduction!r}"
