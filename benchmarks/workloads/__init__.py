"""The workloads: what is computed, from which data, and streamflow's program for each.

`table` names them, `jobs` holds the programs as a user would write them, `run` is the measured process.
"""
