"""Formats of Kafka records: bytes into rows and rows into bytes."""
