"""Pure vectorised work on frames that operators call; no state, no collector."""
