"""A victim as its parent sees it: how it is started, what it said, how it ended."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from reliability.flow import Place
from reliability.points import Point

ROOT: Final = Path(__file__).resolve().parent.parent
HANGS_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal), its lines, and the end of what it complained about."""

    code: int
    said: list[dict[str, Any]]
    errors: str
    seconds: float
    hung: bool = False

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL

    def get(self, name: str) -> Any:
        """The last value that was said under this name; None if there was none."""
        return next((line[name] for line in reversed(self.said) if name in line), None)

    def __str__(self) -> str:
        complaint = self.errors.strip().splitlines()[-6:]
        return (
            f"exit code {self.code} after {self.seconds:.1f} s{' (hung)' if self.hung else ''}: "
            + " | ".join(complaint)
        )


def last_said(module: str, arguments: Sequence[object], *, timeout: float) -> dict[str, Any]:
    """The last line of a process that runs a module to its end, a JSON object. RuntimeError with the end of its
    complaints where it fails, or takes longer than so many seconds."""
    try:
        ended = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            cwd=ROOT,
            env=os.environ | {"POLARS_MAX_THREADS": "1"},  # frames are small, and processes run side by side
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: not within {timeout:g} s") from late
    if ended.returncode:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {ended.stderr.strip().splitlines()[-1:]}")
    said: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return said


@dataclass
class Victim:
    """A running process. Its output goes into files, so that nobody has to read along."""

    process: "subprocess.Popen[bytes]"
    output: Path
    started: float = field(default_factory=time.monotonic)

    @classmethod
    def start(
        cls,
        place: Place,
        *,
        die_at: Point | None = None,
        module: str = "reliability.victim",
        output: str = "said",
        **options: Any,
    ) -> "Victim":
        """Runs `module` on the job in `place`; what it says goes into the file `output` there."""
        command = [sys.executable, "-m", module, str(place.root)]
        if die_at is not None:
            command += ["--die-at", str(die_at)]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        into = place.root / output
        environ = os.environ | {"PYTHONPATH": str(ROOT)}
        # As users have it: a process that compiles what it imports is no measure of recovery.
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
        if "file_limit" in options:
            environ["PYTHONDONTWRITEBYTECODE"] = "1"  # Python would keep compiled modules that are cut off
        with into.open("wb") as out, into.with_suffix(".errors").open("wb") as errors:
            process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=out, stderr=errors)
        return cls(process, into)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill_after(self, seconds: float) -> Ended:
        """Ends it with SIGKILL after so many seconds, unless it ends by itself before."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return self._ended()

    def wait(self, seconds: float = HANGS_SECONDS) -> Ended:
        """Until it ends by itself; one that takes longer than this hangs, and is killed."""
        hung = False
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            hung = True
            self.process.kill()
            self.process.wait()
        return self._ended(hung)

    def said(self) -> list[dict[str, Any]]:
        """The lines so far; half a line does not count."""
        found = []
        for line in self.output.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def _ended(self, hung: bool = False) -> Ended:
        errors = self.output.with_suffix(".errors").read_text(errors="replace")
        return Ended(self.process.returncode, self.said(), errors, time.monotonic() - self.started, hung)
