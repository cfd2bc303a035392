"""Keyed state behind one protocol: descriptors, handles, backends, timers, panes."""
