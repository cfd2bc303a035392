"""The program of a worker with fuses in it; otherwise the product's."""

from reliability.processes.fuses import burning
from streamflow.cli.worker import main
from streamflow.config import Settings
from streamflow.runtime.ports import Ports


def _ports(settings: Settings) -> Ports:
    return Ports(io_threads=settings.io_threads, cpu_threads=2, reach=burning())


if __name__ == "__main__":
    raise SystemExit(main(_ports))
