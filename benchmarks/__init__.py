"""Benchmarks: one seeded data set, the same work for streamflow and its peers, and the harness that pairs
them.

`python -m benchmarks` (or `streamflow bench` in a checkout) runs them; README.md says how to read what it
prints. Nothing here is installed with the package.
"""
