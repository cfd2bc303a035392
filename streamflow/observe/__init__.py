"""What a running job shows: metrics, status, health, log lines, and the server that hands them out."""
