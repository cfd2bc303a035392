"""Where Kafka's jars are: fetched once by Maven, as pom.xml names them, into the user's cache folder.

Only the standard library is needed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

__all__ = ["KAFKA_VERSION", "BrokerError", "fetch_jars", "why_no_java"]

_POM: Final = Path(__file__).with_name("pom.xml")
_OLDEST_JAVA: Final = 17


class BrokerError(Exception):
    """There is no broker, and why; what to do about it is part of the text."""


def _version() -> str:
    namespace = {"m": "http://maven.apache.org/POM/4.0.0"}
    for dependency in ElementTree.parse(_POM).iterfind(".//m:dependency", namespace):
        if dependency.findtext("m:groupId", namespaces=namespace) == "org.apache.kafka":
            return dependency.findtext("m:version", default="", namespaces=namespace)
    raise BrokerError(f"{_POM} does not name org.apache.kafka")


KAFKA_VERSION: Final = _version()


def why_no_java() -> str | None:
    """Why a broker cannot be run from the jars on this machine; None where it can be tried."""
    if shutil.which("java") is None:
        return f"there is no java on the PATH (Kafka {KAFKA_VERSION} needs Java {_OLDEST_JAVA})"
    said = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < _OLDEST_JAVA:
        found = said.partition("\n")[0] or "something that tells no version"
        return f"java is {found}, and Kafka {KAFKA_VERSION} needs {_OLDEST_JAVA} or newer"
    if shutil.which("mvn") is None and not _complete(_folder()):
        return "there is no mvn on the PATH to fetch Kafka's jars with"
    return None


def fetch_jars() -> Path:
    """The folder with the jars; Maven fills it (about 40 MB) when it is asked for the first time.

    Two processes that ask at once do it once. BrokerError where Maven fails.
    """
    folder = _folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _complete(folder):
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as fetching:
                fetched = Path(fetching, "jars")
                _copy_with_maven(fetched)
                shutil.rmtree(folder, ignore_errors=True)
                fetched.rename(folder)
    return folder


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "streamflow" / f"kafka-{KAFKA_VERSION}"


def _complete(folder: Path) -> bool:
    return (folder / f"kafka_2.13-{KAFKA_VERSION}.jar").is_file()


def _copy_with_maven(folder: Path) -> None:
    command = ["mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", "-DincludeScope=runtime"]
    try:
        done = subprocess.run(
            [*command, f"-DoutputDirectory={folder}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise BrokerError(f"mvn cannot be run to fetch Kafka's jars: {error}") from error
    if done.returncode != 0 or not _complete(folder):
        said = [line for line in done.stdout.splitlines() if "ERROR" in line]
        raise BrokerError(f"mvn could not fetch Kafka's jars: {' '.join(said[:2]) or done.stderr.strip()}")
