"""`map_async`: requests to services, several at once, as part of a checkpoint."""
