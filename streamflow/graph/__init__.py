"""From the logical graph the API builds to the physical plan a runner places."""
