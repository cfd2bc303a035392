"""The publishing of output files: written in hidden folders, renamed when a checkpoint is complete."""
