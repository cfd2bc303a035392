"""Loading of the job in `FILE[:job]`: imports the file and takes the only `Job` in it, or the one named.

Errors in the user's file are shown with the user's own line; frames of streamflow and of libraries above it would
help nobody.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Mapping
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from importlib.abc import Loader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from streamflow.config import Settings
from streamflow.errors import ConfigError, JobDefinitionError, StreamflowError, unknown_name
from streamflow.job_settings import LeftToTheCommand, handed_over
from streamflow.runners.program import Program
from streamflow.user_code import described

if TYPE_CHECKING:
    from streamflow.api.job import Job

__all__ = ["Loaded", "NoJobError", "load"]

Loaded = tuple["Job", dict[str, str]]


class NoJobError(ConfigError):
    """A file that holds no job, or none of that name."""


def load(
    target: str,
    given: Mapping[str, str] | None = None,
    *,
    stdout: bool = True,
    told: bool = True,
    package: str = "",
) -> Loaded:
    """The job in `FILE` or `FILE:job`, and those of the `given` settings that are runtime settings.

    `job` is the variable's name or the job's own. The other given settings are handed to the file's `sf.setting`.
    Without `stdout` the file's printed text goes to stderr: for commands whose stdout is read by programs. A file
    that runs its job by itself is read up to that line, and stderr says so if it is to be `told`. In a `package` it may
    import its neighbours by relative names. Raises ConfigError for a file that cannot be read, holds no job or several,
    and for a setting that is never read; JobDefinitionError, with the line, for an error in the file itself.
    """
    from streamflow.api.job import Job

    path, name = _split(target)
    given = given or {}
    runtime = {key: value for key, value in given.items() if key in Settings.names()}
    own = {key: value for key, value in given.items() if key not in runtime}
    file, folder = path.absolute(), str(Path.cwd())  # before the file goes to another folder
    with handed_over(own) as handed, nullcontext() if stdout else redirect_stdout(sys.stderr):
        module = _import(path, package, told=told)
    for key in own:
        if key not in handed.asked:
            message, hint = unknown_name("setting", key, [*Settings.names(), *handed.asked])
            raise ConfigError(f"--set {key}: {message}", hint=hint)
    jobs = {variable: value for variable, value in vars(module).items() if isinstance(value, Job)}
    job = _choose(path, name, jobs)
    variable = next(variable for variable, value in jobs.items() if value is job)
    Program.of(file, variable, own, folder=folder).remember(job)
    return job, runtime


def _split(target: str) -> tuple[Path, str | None]:
    path, colon, name = target.rpartition(":")
    if colon and name.isidentifier() and not Path(target).exists():
        return Path(path), name
    return Path(target), None


def _choose(path: Path, name: str | None, jobs: Mapping[str, Job]) -> Job:
    if not jobs:
        raise NoJobError(
            f"{path} has no job", hint='assign one at the top level of the file: job = sf.Job("name")'
        )
    if name is not None and name in jobs:
        return jobs[name]
    meant: dict[int, tuple[str, Job]] = {}
    for variable, job in jobs.items():
        if name in (None, job.name):
            meant.setdefault(id(job), (variable, job))
    if not meant:
        message, hint = unknown_name("job", str(name), jobs)
        raise NoJobError(f"{path}: {message}", hint=hint)
    if len(meant) > 1:
        variables = sorted(variable for variable, _ in meant.values())
        called = "" if name is None else f" called {name!r}"
        raise ConfigError(
            f"{path} has {len(meant)} jobs{called}: {', '.join(variables)}",
            hint=f"name one: {path}:{variables[0]}",
        )
    [(_, job)] = meant.values()
    return job


def _import(path: Path, package: str, *, told: bool) -> ModuleType:
    if not path.exists():
        raise ConfigError(f"no file {path}", hint=_near(path))
    if path.is_dir():
        raise ConfigError(f"{path} is a folder", hint="name the Python file that holds the job")
    name = f"{package}.__job_{path.stem}__".lstrip(".")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is not a Python file", hint="its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and type hints look their module up by name, and the file may import its neighbours.
    sys.modules[name] = module
    own = path.resolve()  # before the file goes to another folder
    sys.path.insert(0, str(own.parent))
    _execute(spec.loader, module, path, own, told=told)
    return module


def _execute(loader: Loader, module: ModuleType, path: Path, own: Path, *, told: bool) -> None:
    """Runs the file, whose whole path is `own`; errors in it are raised with the user's line."""
    try:
        loader.exec_module(module)
    except LeftToTheCommand as left:
        if not told:
            return
        ran = _line_in(left, own) or path
        print(
            f"note: the file runs its job by itself; this command runs it instead: {ran}\n"
            '  hint: put the line that runs the job under: if __name__ == "__main__":',
            file=sys.stderr,
        )
    except (ConfigError, KeyboardInterrupt):
        raise
    except SyntaxError as error:
        raise _syntax_error(error, path) from error
    except OSError as error:
        if _line_in(error, own) is None:
            raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error
        raise _own_error(error, path, own) from error
    except SystemExit as error:
        raise JobDefinitionError(
            f"{path} left the program with sys.exit({error.code!r}) while it was imported",
            hint='put the line that runs the job under: if __name__ == "__main__":',
        ) from error
    except StreamflowError as error:
        line = _line_in(error, own)
        if line is not None:
            error.message = f"{error.message}\n{line}"
            error.where = replace(error.where, code=None)  # the line is there
        raise
    except BaseException as error:  # exceptions of a user's file may be no Exception
        raise _own_error(error, path, own) from error


def _syntax_error(error: SyntaxError, path: Path) -> ConfigError:
    """The line and a caret under the place, as Python shows it."""
    if error.lineno is None:
        return ConfigError(f"{path} is no Python file: {error.msg}")
    where = f"{_shown(error.filename)}, line {error.lineno}"
    line = (error.text or "").rstrip("\n")
    indent = len(line) - len(line.lstrip())
    caret = " " * max((error.offset or 1) - 1 - indent, 0) + "^"
    shown = f"\n{line.strip()}\n{caret}" if line.strip() else ""
    return ConfigError(f"{where}: {error.msg}{shown}")


def _own_error(error: BaseException, path: Path, own: Path) -> JobDefinitionError:
    line = _line_in(error, own) or f"{path}, while it was imported"
    return JobDefinitionError(f"{described(error)}\n{line}")


def _line_in(error: BaseException, own: Path) -> str | None:
    """The innermost frame of the error in the user's file `own` or in its folder, as `file, line, code`."""
    folder = own.parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith("<"):
            continue  # no file: the __init__ that a dataclass was given
        file = Path(frame.filename).resolve()
        if file == own or (file.parent == folder and "site-packages" not in file.parts):
            return f"{_shown(frame.filename)}, line {frame.lineno}, in {frame.name}: {frame.line}"
    return None


def _shown(filename: str | None) -> str:
    """A path as the user would write it: relative if it lies below the current folder."""
    path = Path(filename or "?")
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _near(path: Path) -> str:
    from difflib import get_close_matches

    folder = path.parent
    if not folder.is_dir():
        return f"there is no folder {folder} either"
    near = get_close_matches(path.name, sorted(each.name for each in folder.glob("*.py")), n=1)
    return f"did you mean {folder / near[0]}?" if near else f"the current folder is {Path.cwd()}"
