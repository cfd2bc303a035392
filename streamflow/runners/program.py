"""The program of a job: the file that workers import to have the same job as the coordinator."""

from __future__ import annotations

import platform
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from weakref import WeakKeyDictionary

import msgspec
from msgspec.structs import replace

from streamflow.errors import ConfigError

__all__ = ["Program"]

_LOADED: Final[WeakKeyDictionary[object, Program]] = WeakKeyDictionary()
"""The programs of jobs that a command has loaded, with the settings given to it."""


class Program(msgspec.Struct, frozen=True):
    """The job called `name` in the file at `path`, which is looked at with the settings `given` by its user.

    `digest` is the SHA-256 of the file: a worker that finds another content refuses it.
    """

    path: str
    name: str
    given: dict[str, str]
    digest: str
    folder: str
    """The working directory, against which relative paths in the job are meant."""
    search: list[str]
    """The folders in which modules are looked for."""
    arguments: list[str] = []
    """`sys.argv`, by which the file may decide."""
    package: str = ""
    """The package of the file's module, for what it imports from its neighbours; "" for none."""
    content: bytes | None = None
    """The file itself, for workers on hosts where it is not."""

    @classmethod
    def of(
        cls,
        path: Path,
        name: str,
        given: Mapping[str, str] | None = None,
        *,
        folder: str | None = None,
        package: str = "",
    ) -> Program:
        """The program in a file, as it is now; `folder` is the present one if none is given. Raises ConfigError if the
        file cannot be read."""
        search = [each for each in sys.path if each]
        return cls(
            str(path.absolute()),
            name,
            dict(given or {}),
            _digest(_content(path)),
            folder or str(Path.cwd()),
            search,
            sys.argv,
            package,
        )

    @classmethod
    def holding(cls, job: object) -> Program:
        """The program that has this job as a variable of one of its modules. Raises ConfigError if there is none."""
        if (loaded := _LOADED.get(job)) is not None:
            return loaded
        main = sys.modules.get("__main__")
        modules = [main, *(module for name, module in list(sys.modules.items()) if name != "__main__")]
        for module in modules:
            file = getattr(module, "__file__", None)
            if not isinstance(file, str) or not file.endswith(".py"):
                continue
            for variable, value in list(vars(module).items()):
                if value is job:
                    return cls.of(Path(file), variable, package=getattr(module, "__package__", None) or "")
        raise ConfigError(
            "workers import the file of the job, and this job is no variable of any",
            hint='assign it at the top level of a file, like job = sf.Job("name"), with the line that runs it under '
            'if __name__ == "__main__":',
        )

    def remember(self, job: object) -> None:
        """Notes that a command has loaded the job from here."""
        _LOADED[job] = self

    def with_content(self) -> Program:
        """The program together with its file; raises ConfigError if the file has changed since."""
        path = Path(self.path)
        content = _content(path)
        self._check(path, content)
        return replace(self, content=content)

    @contextmanager
    def at_hand(self) -> Generator[Path]:
        """The file, inside this context: at its path, or a copy of what was sent where there is none. Raises
        ConfigError if the file there is not the coordinator's."""
        path = Path(self.path)
        if self.content is None or path.exists():
            self._check(path, _content(path))
            yield path
            return
        self._check(path, self.content)
        with TemporaryDirectory(prefix="streamflow-job-") as folder:
            copy = Path(folder, path.name)
            copy.write_bytes(self.content)
            yield copy

    def _check(self, path: Path, content: bytes) -> None:
        if _digest(content) != self.digest:
            raise ConfigError(
                f"{path} on host {platform.node()} is not the file that the job was started with",
                hint="if it has been changed, start the job again; with several hosts give all the same file",
            )


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
