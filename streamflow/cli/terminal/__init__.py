"""Terminal output of commands: tables, progress, live figures."""
