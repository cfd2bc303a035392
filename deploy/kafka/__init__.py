"""A real Kafka broker on this machine, from Apache's jars, for people and tests without Docker: `make kafka`."""
