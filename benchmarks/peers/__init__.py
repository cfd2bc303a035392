"""The peers: the same work in other engines, each a program of its own, measured like ours.

`table` names them and what each can do; the other modules are the measured processes. Each is tuned as
its documentation advises, and its result is checked like ours.
"""
