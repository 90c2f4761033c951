"""Kernel parameters: those of namespaces that the container owns, and no others."""

from pathlib import Path

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime

SYSCTL = "/linux/sysctl"
PROC = Path("/proc/sys")


@pytest.mark.only("ocirun")
@pytest.mark.spec("/linux/sysctl", "/linux/sysctl/*")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net.ipv4.ip_forward", "1"),
        ("net/ipv4/ip_forward", "1"),
        ("net.ipv4.conf.lo.forwarding", "1"),
        ("net.core.somaxconn", "77"),
        ("kernel.msgmax", "4097"),
        ("kernel.shmmni", "77"),
        ("kernel.shm_rmid_forced", "1"),
        ("kernel.sem", "100\t1000\t100\t10"),
        ("fs.mqueue.msg_max", "7"),
        ("kernel.domainname", "example.org"),
    ],
)
@pytest.mark.parametrize("user", [False, True], ids=["root", "user-namespace"])
def test_set_inside_alone(
    runtime: Runtime, bundle: Bundle, name: str, value: str, user: bool
) -> None:
    if user:
        bundle.user_namespace()
        if name.startswith(("fs.mqueue", "kernel.domainname")):
            pytest.skip("the kernel lets only the host's root set them")
    file = PROC / name.replace(".", "/")
    before = file.read_text()
    bundle.set(SYSCTL, {name: value}).sh(f"cat {file}")
    assert runtime.run(bundle).ok().out.split() == value.split()
    assert file.read_text() == before


@pytest.mark.spec("/linux/sysctl/*")
@pytest.mark.parametrize(
    ("name", "shared"),
    [
        ("vm.swappiness", ""),
        ("kernel.panic", ""),
        ("fs.file-max", ""),
        ("net.ipv4.ip_forward", "network"),
        ("kernel.msgmax", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
    ],
)
def test_the_hosts_are_refused(runtime: Runtime, bundle: Bundle, name: str, shared: str) -> None:
    file = PROC / name.replace(".", "/")
    before = file.read_text()
    if shared:
        bundle.drop_namespace(shared)
    if shared == "ipc":
        bundle.drop_mount("/dev/mqueue")
    runtime.run(bundle.set(SYSCTL, {name: before.strip()})).failed(name)
    assert file.read_text() == before
    if runtime.kind == "ocirun":
        runtime.run(bundle).failed(f"{SYSCTL}/{name}", "whole host|namespace")


@pytest.mark.only("ocirun")
@pytest.mark.parametrize(
    ("name", "space"), [("net.ipv4.ip_forward", "network"), ("kernel.msgmax", "ipc")]
)
def test_the_hosts_namespace_by_path(
    runtime: Runtime, bundle: Bundle, name: str, space: str
) -> None:
    """A path does not make it the container's own."""
    file = PROC / name.replace(".", "/")
    before = file.read_text()
    bundle.namespace(space, f"/proc/self/ns/{'net' if space == 'network' else space}")
    bundle.set(SYSCTL, {name: before.strip()})
    runtime.run(bundle).failed(f"{SYSCTL}/{name}", f"runtime's own {space} namespace")
    assert file.read_text() == before
    assert runtime.containers() == []


@pytest.mark.only("ocirun")
@pytest.mark.spec("/linux/personality/flags")
def test_flags_of_a_personality(runtime: Runtime, bundle: Bundle) -> None:
    """The specification defines none."""
    bundle.set("/linux/personality", {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]})
    runtime.run(bundle).failed("/linux/personality/flags")
    bundle.set("/linux/personality/flags", [])
    assert runtime.probe(bundle)["personality"] == 0


@pytest.mark.only("ocirun")
@pytest.mark.spec("/linux/intelRdt")
@pytest.mark.parametrize("wanted", [{}, {"closID": "x"}, {"enableMonitoring": True}])
def test_no_resctrl(runtime: Runtime, bundle: Bundle, wanted: dict[str, object]) -> None:
    if " - resctrl " in Path("/proc/self/mountinfo").read_text():
        pytest.skip("needs a machine without resctrl")
    runtime.run(bundle.set("/linux/intelRdt", wanted)).failed("/linux/intelRdt", "no resctrl")
    assert runtime.containers() == []
