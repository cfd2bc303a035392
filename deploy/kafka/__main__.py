"""`python -m deploy.kafka`: a broker in the foreground until Ctrl-C; what it holds stays for the next time."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from deploy.kafka.jars import BrokerError, fetch_jars, why_no_java
from deploy.kafka.local_broker import LocalBroker

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the broker until it is told to stop; 1 where it cannot be run or ended by itself."""
    parser = argparse.ArgumentParser(prog="python -m deploy.kafka", description=__doc__)
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--data", type=Path, default=Path("kafka-data"), help="where its topics are kept")
    chosen = parser.parse_args(arguments)

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    broker = LocalBroker(chosen.port, chosen.data)
    try:
        if why := why_no_java():
            raise BrokerError(f"{why}; with Docker: docker compose up kafka")
        print("Kafka: fetching what is missing, then starting …", file=sys.stderr, flush=True)
        fetch_jars()
        broker.start()
        print(
            f"Kafka is up at {broker.bootstrap}; Ctrl-C ends it, {chosen.data}/ keeps its topics", flush=True
        )
        return 1 if broker.wait() else 0
    except BrokerError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    finally:
        broker.stop()


if __name__ == "__main__":
    sys.exit(main())
