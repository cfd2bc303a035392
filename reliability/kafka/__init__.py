"""What is broken where the job reads from Kafka and writes to Kafka: the process, the broker, the network between."""
