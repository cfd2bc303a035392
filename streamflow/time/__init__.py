"""Event time and processing time: timestamps, durations, clocks, watermark strategies."""
