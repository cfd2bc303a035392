"""Keyed state, as a process declares and uses it: values, lists, maps, timers, time to live."""
