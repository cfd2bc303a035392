"""The processes of a benchmark that run side by side, and what they say: JSON lines, kept in files."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.program import ROOT, ProgramError


class Child:
    """One process. It ends when its standard input does, or when it is done."""

    def __init__(self, name: str, folder: Path, arguments: tuple[object, ...]) -> None:
        self.name = name
        self._said = folder / f"{name}.out"
        self._errors = folder / f"{name}.err"
        with self._said.open("wb") as said, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.kafka.{name.partition('-')[0]}", *map(str, arguments)],
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=errors,
            )

    def lines(self) -> list[dict[str, Any]]:
        """The lines so far; a line that is still being written is left out."""
        whole = self._said.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def until(self, what: str, seen: Callable[[dict[str, Any]], bool], seconds: float) -> None:
        """Wait until the last line is such a one. ProgramError where it does not come or the process ends before."""
        until = time.monotonic() + seconds
        while not ((lines := self.lines()) and seen(lines[-1])):
            if self.process.poll() is not None:
                raise self._failure(f"ended before it {what}")
            if time.monotonic() > until:
                raise self._failure(f"has not {what} within {seconds:g} s")
            time.sleep(0.05)

    def end(self, seconds: float) -> list[dict[str, Any]]:
        """Close its input and wait for its end; all that it has said."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired as expired:
            raise self._failure(f"did not end within {seconds:g} s") from expired
        if code:
            raise self._failure(f"ended with {code}")
        return self.lines()

    def _failure(self, what: str) -> ProgramError:
        errors = self._errors.read_text(errors="replace").strip().splitlines()[-15:] or ["nothing said"]
        return ProgramError("\n".join([f"{self.name} {what}: {errors[-1]}", *errors]))


@contextmanager
def children(folder: Path) -> Iterator[Callable[..., Child]]:
    """Starts processes: `start(name, *arguments)` runs the module that the name begins with, up to a dash. None of
    them outlives this."""
    started: list[Child] = []

    def start(name: str, *arguments: object) -> Child:
        started.append(Child(name, folder, arguments))
        return started[-1]

    try:
        yield start
    finally:
        for child in started:
            if child.process.poll() is None:
                child.process.kill()
            child.process.wait()
            if child.process.stdin is not None:
                child.process.stdin.close()
