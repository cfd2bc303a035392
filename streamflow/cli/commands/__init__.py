"""The commands of `streamflow`, one a file."""
