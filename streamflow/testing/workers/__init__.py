"""Workers of one job side by side on one event loop: no processes, no sockets, any clock."""
