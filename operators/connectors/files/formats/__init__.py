"""Formats of files: lines of text, CSV, JSON, and tables of Parquet and Arrow, as columns or as objects."""
