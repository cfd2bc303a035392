"""The benchmarks against a real Kafka broker: reading (K1), latency between two topics, and ten minutes at the limit.

Each starts a broker of its own (`deploy.kafka`; Java 17 and, the first time, Maven), or uses the one that
`STREAMFLOW_BENCH_KAFKA` names; topics have random names.
"""
