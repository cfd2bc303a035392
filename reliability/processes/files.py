"""The file of the job between files, which workers import."""

from pathlib import Path

import streamflow as sf
from reliability.flow import Place, job_of

job = job_of(Place(Path(sf.setting("root", ""))), sf.setting("pause", 0.0))
