"""What survives a command: the records under /run/ocirun and who a process is."""
