"""Filters of system calls: compiled by libseccomp once, then taken from a cache.

`cache` is loaded for containers with a filter, `compiler`, `enosys` and `words` are cold.
What a filter says is decided in `plan.seccomp`; `executor.confine` installs it.
"""
