"""Doctests run through streamflow/: collected here, operators/ and state/ would be a second copy of each module."""

collect_ignore_glob = ["operators/*", "state/*"]
