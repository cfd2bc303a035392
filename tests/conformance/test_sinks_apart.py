"""Two-phase sinks whose writers are in another process than their committer: committables are all that comes over."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from streamflow.core.serde import unpack
from streamflow.errors import SinkError
from streamflow.operators.connectors.files.sink import FileSink
from streamflow.operators.contract.sink import Committable
from tests.conformance.test_sinks import CASES, numbered
from tests.unit.connectors.driving import run, sink_context, stream_type

WORKER = """
import sys
from dataclasses import replace
from pathlib import Path
from streamflow.core.serde import pack
from tests.conformance.test_sinks import CASES, numbered
from tests.unit.connectors.driving import run, sink_context, stream_type

kind, sealed = stream_type(numbered(1)), {name: [[], []] for name, case in CASES.items() if case.two_phase}
for name, epochs in sealed.items():
    for subtask in (0, 1):
        context = sink_context(subtask=subtask, parallelism=2, seed=subtask)
        context = replace(context, apart=True, checkpointed=True)
        writer = CASES[name].make(Path(sys.argv[1], name)).sink.writer(kind, context)
        for epoch, pieces in enumerate(epochs, start=1):
            run(writer.write(numbered(100 * epoch + 10 * subtask, 100 * epoch + 10 * subtask + 1)))
            pieces += [dict(each) for each in run(writer.prepare(epoch))]
sys.stdout.buffer.write(pack(sealed))
"""

TWO_PHASE = [name for name, case in CASES.items() if case.two_phase]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[list[Committable]]]]:
    """The output that another process has sealed with two subtasks in two epochs, by sink."""
    base = tmp_path_factory.mktemp("apart")
    for name in CASES:
        (base / name).mkdir()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WORKER, base]
    ran = subprocess.run(command, check=True, capture_output=True, env=environment)
    told: dict[str, list[list[Committable]]] = unpack(ran.stdout)
    return base, told


@pytest.mark.parametrize("name", TWO_PHASE)
def test_what_another_process_has_sealed_is_seen_once_it_is_committed(
    name: str, sealed: tuple[Path, dict[str, list[list[Committable]]]]
) -> None:
    base, by_sink = sealed
    first, second = by_sink[name]
    kit = CASES[name].make(base / name)
    context = replace(sink_context(seed=7), apart=True, checkpointed=True, type=stream_type(numbered(1)))
    committer = kit.sink.committer(context)
    assert committer is not None
    run(committer.begin())
    assert kit.visible() == []
    for _ in range(2):
        run(committer.commit(1, first))
        assert sorted(kit.visible()) == [100, 101, 110, 111]
    run(committer.close())

    going_on = kit.sink.committer(replace(context, restored=2))
    assert going_on is not None
    run(going_on.restore(2, second))
    assert sorted(kit.visible()) == [100, 101, 110, 111, 200, 201, 210, 211]
    run(going_on.close())


@pytest.mark.parametrize("name", ["out", "out.csv"])
def test_another_folder_under_the_same_path_is_told(name: str, tmp_path: Path) -> None:
    """As where workers are on other hosts, and the path is not a shared folder."""
    kind = stream_type(numbered(1))
    there, here = tmp_path / "there", tmp_path / "here"
    for folder in (there, here):
        folder.mkdir()
    context = replace(sink_context(), apart=True, checkpointed=True, type=kind)
    writer = FileSink(there / name).writer(kind, context)
    run(writer.write(numbered(1)))
    committer = FileSink(here / name).committer(context)
    with pytest.raises(
        SinkError, match=r"staged content .* is gone; the writer's process has another folder"
    ):
        run(committer.commit(1, run(writer.prepare(1))))


def test_later_output_for_a_single_file_is_not_taken_for_published_where_it_cannot_be_found(
    tmp_path: Path,
) -> None:
    kind = stream_type(numbered(1))
    context = replace(sink_context(), apart=True, checkpointed=True, type=kind)
    committers = []
    for name in ("there", "here"):
        (tmp_path / name).mkdir()
        sink = FileSink(tmp_path / name / "out.csv")
        writer, committer = sink.writer(kind, context), sink.committer(context)
        run(writer.write(numbered(1)))
        run(committer.commit(1, run(writer.prepare(1))))
        committers.append((writer, committer))
    (writer, _), (_, committer) = committers
    run(writer.write(numbered(2)))
    with pytest.raises(SinkError, match=r"staged content .* is gone"):
        run(committer.commit(2, run(writer.prepare(2))))
