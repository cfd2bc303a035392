"""Kafka client libraries behind one port."""
