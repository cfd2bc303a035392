"""The view of a running job: metrics, status, health, log lines, and the server for them."""
