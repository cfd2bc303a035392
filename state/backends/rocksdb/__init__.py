"""The RocksDB backend, the only place that imports rocksdict."""
