"""The public library: containers from Python, with a warm executor."""
