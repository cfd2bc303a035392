"""The project's promises when things break, and the programs that break them: `python -m reliability`.

Real processes are killed, real files are damaged, real disks run full; the result is compared with what Polars computes
in one go. Not part of the installed package.
"""
