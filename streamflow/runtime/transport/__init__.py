"""Connections between workers: stream elements as frames, a proof that the peer belongs to the run, and sockets."""
