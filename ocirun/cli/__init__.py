"""The command line: a thin client of `ocirun.api`."""
