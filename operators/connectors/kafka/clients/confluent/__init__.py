"""confluent-kafka as a client, with the extra `confluent`."""
