"""The two graphs of a job: the logical graph that the API builds, and the physical plan that a runner places."""
