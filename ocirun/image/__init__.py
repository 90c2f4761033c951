"""Rootfs images: import, list, remove, and the bundle that `launch` writes.

Not on the hot path: the standard library is used freely. Nothing in
`ocirun.runtime` imports this package, except `delete`, which calls
`ocirun.image.bundle.cleanup` for a container that `launch` has left detached.
"""
