"""What this host can do and cannot, found out by doing it. Cold.

Belongs here: findings with the command that mends them, and the trials, each in a short-lived
process that leaves nothing. Does not belong here: how a finding is shown (`cli`).

    finding     Finding; attempt(): a trial in a process of its own
    kernel      namespaces, user namespaces, file systems, mounts, clone3, seccomp, modules
    cgroups     hierarchies, controllers, whether a cgroup can be made, systemd
    programs    privileges, packages, CRIU, newuidmap, newgidmap

`examine` does all of it.
"""

from ocirun.doctor import cgroups, kernel, programs
from ocirun.doctor.finding import Finding


def examine() -> list[Finding]:
    """All findings, in the order in which they are to be read."""
    return [*programs.privileges(), *kernel.findings(), *cgroups.findings(), *programs.findings()]


def can_run(findings: list[Finding]) -> bool:
    """Containers can be run: nothing that every container needs is missing."""
    return all(finding.good for finding in findings if finding.needed)
