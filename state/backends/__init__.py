"""Keyed state backends behind one protocol: memory and RocksDB."""
