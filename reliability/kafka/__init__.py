"""Faults between the job and Kafka: of the process, the broker, the network between."""
