"""Simulation: a job under virtual time with crashes, lost writes and torn files, from a seed."""

from streamflow.testing.simulation.campaign import Campaign, simulate
from streamflow.testing.simulation.disk import DiskFault, SimDisk
from streamflow.testing.simulation.loop import SimLoop
from streamflow.testing.simulation.points import CrashAt
from streamflow.testing.simulation.report import Simulation
from streamflow.testing.simulation.schedule import Incarnation, Schedule

__all__ = [
    "Campaign",
    "CrashAt",
    "DiskFault",
    "Incarnation",
    "Schedule",
    "SimDisk",
    "SimLoop",
    "Simulation",
    "simulate",
]
