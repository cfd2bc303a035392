"""The command line: parses the arguments, calls the public API, prints the result."""
