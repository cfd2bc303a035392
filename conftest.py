"""Folders that pytest leaves alone, whichever folder it is called with.

Doctests run through streamflow/: collected at the top, operators/ and state/ would be a second copy of each module.
Benchmarks and examples are programs. And the one fixture of all tests: a Kafka broker.
"""

pytest_plugins = ["tests.kafka.broker"]

collect_ignore_glob = ["operators/*", "state/*", "benchmarks/*", "reliability/*", "examples/*"]
