"""The file of the job between topics, which workers import."""

from pathlib import Path

import streamflow as sf
from reliability.kafka.flow import Site, job_of
from reliability.pacing import Pace

site = Site(Path(sf.setting("root", "")), sf.setting("bootstrap", ""), sf.setting("name", ""))
job = job_of(site, Pace(sf.setting("pause", 0.0)))
