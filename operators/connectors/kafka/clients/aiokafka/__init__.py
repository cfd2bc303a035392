"""aiokafka as a client, with a reader that keeps columns instead of records."""
