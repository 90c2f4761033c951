"""Talking to CRIU, which writes processes to files and makes them again (criu(8)).

Belongs in this folder: CRIU's protocol, and what CRIU must be told about the world outside a
container. The operations are `ocirun.runtime.checkpoint` and `.restore`. All of it is cold.

    protobuf    messages as bytes
    service     one `criu swrk` process: requests, notifications, failures
    options     what checkpoint and restore have in common; the numbers of CRIU's options
    mounts      which mounts of a container are not its own, and where they come from
    streams     stdin, stdout and stderr, which lead out of the container
"""
