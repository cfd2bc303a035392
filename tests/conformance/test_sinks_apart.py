"""Two-phase sinks whose writers are in another process than their committer: committables are all that comes over."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from streamflow.core.serde import unpack
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
    """What another process has sealed with two subtasks in two epochs, by sink."""
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
