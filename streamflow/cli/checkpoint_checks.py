"""Checks of checkpoints: whether they are intact, and which of them are no longer needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from streamflow.cli.terminal import figures
from streamflow.errors import ConfigError, StateError
from streamflow.state.checkpoints.collection import retained
from streamflow.state.checkpoints.store import CheckpointStore

__all__ = ["Checked", "Say", "check", "outdated", "verdict"]

Say = Callable[[str], None]
"""A function that takes the progress as text; an empty text removes the line."""


class Checked(TypedDict):
    """One checkpoint that was read: its files and bytes, and the problems by file."""

    job: str
    number: int
    files: int
    bytes: int
    problems: list[dict[str, str]]


def check(store: CheckpointStore, number: int | None, *, all_: bool, say: Say) -> list[Checked]:
    """Reads the newest checkpoint, that of `number`, or all of them, newest first."""
    numbers = store.numbers()
    if number is not None and number not in numbers:
        raise ConfigError(
            f"job {store.job} has no checkpoint {number} in {store.place}",
            hint=f"there are: {', '.join(map(str, numbers)) or 'none'}",
        )
    chosen = [number] if number is not None else numbers[::-1] if all_ else numbers[-1:]
    checked: list[Checked] = []
    for at, each in enumerate(chosen, 1):
        files, size = 0, 0
        try:
            manifest = store.manifest(each)
            files, size = len(manifest.all_files()), manifest.size
        except StateError:
            say("")  # verify reports it
        say(f"{store.job} {each} ({at} of {len(chosen)}): {files} files, {figures.size(size)}")
        try:
            problems = [{"file": problem.file, "what": problem.what} for problem in store.verify(each)]
        except StateError as error:
            problems = [{"file": "manifest", "what": error.message}]
        if problems and each not in store.numbers():
            continue  # a running job has removed it meanwhile
        checked.append(Checked(job=store.job, number=each, files=files, bytes=size, problems=problems))
    say("")
    return checked


def verdict(checked: Checked) -> str:
    """One line, and one more for each damaged file."""
    what = f"{checked['job']} {checked['number']}"
    if not checked["problems"]:
        return f"{what}: intact ({checked['files']} files, {figures.size(checked['bytes'])})"
    lines = [f"{what}: DAMAGED"]
    lines += [f"  {problem['file']}: {problem['what']}" for problem in checked["problems"]]
    return "\n".join(lines)


def outdated(store: CheckpointStore, keep: int) -> list[int]:
    """The checkpoints that `retain` would remove. Raises StateError if a manifest cannot be read."""
    manifests = [store.manifest(number) for number in store.numbers()]
    generations = {each.number: each.generation for each in manifests if each.kind == "checkpoint"}
    return sorted(set(generations) - retained(generations, keep))
