"""How output files come to be seen: written in hidden folders, named when a checkpoint is complete."""
