"""The command line: parses what the user typed, calls the public API, prints what came of it."""
