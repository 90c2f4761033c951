"""The root file system: read-only or not, propagation, missing pieces."""

import os
import subprocess
from pathlib import Path

import pytest
from lib import mountinfo
from lib.bundle import Bundle
from lib.runtime import Runtime, wait_for


@pytest.mark.parametrize(("readonly", "status"), [(True, 1), (False, 0)])
def test_readonly(runtime: Runtime, bundle: Bundle, readonly: bool, status: int) -> None:
    bundle.set("/root/readonly", readonly).sh("touch /etc/new")
    assert runtime.run(bundle).status == status
    assert (bundle.rootfs / "etc/new").exists() == (not readonly)


def test_writable_by_default(runtime: Runtime, bundle: Bundle) -> None:
    bundle.drop("/root/readonly").sh("touch /etc/new")
    runtime.run(bundle).ok()
    assert (bundle.rootfs / "etc/new").exists()


def test_only_the_root_is_readonly(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/root/readonly", True)
    runtime.run(bundle.sh("touch /dev/shm/new && test -f /dev/shm/new && ! touch /etc/new")).ok()
    assert not (bundle.rootfs / "etc/new").exists()


def test_parent_of_the_root_is_the_root(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("cd /..; ls; cd ../../..; ls").write()
    inside = runtime.run(bundle).ok().out.split()
    assert inside == sorted(p.name for p in bundle.rootfs.iterdir()) * 2


def test_the_old_root_is_gone(runtime: Runtime, bundle: Bundle) -> None:
    mounts = mountinfo.parse(runtime.probe(bundle)["mountinfo"])
    assert [m.point for m in mounts if m.point == "/"] == ["/"]
    assert not [m for m in mounts if m.point.startswith(str(bundle.path))]


@pytest.mark.spec("/linux/rootfsPropagation")
@pytest.mark.parametrize(
    ("propagation", "peers"),
    [
        ("private", set()),
        ("rprivate", set()),
        ("slave", {"master"}),
        ("rslave", {"master"}),
        ("shared", {"shared"}),
        ("rshared", {"shared"}),
        ("unbindable", {"unbindable"}),
        ("runbindable", {"unbindable"}),
    ],
)
def test_propagation(runtime: Runtime, bundle: Bundle, propagation: str, peers: set[str]) -> None:
    bundle.set("/linux/rootfsPropagation", propagation)
    root = mountinfo.find(runtime.probe(bundle)["mountinfo"], "/")
    assert root.peers >= peers if "shared" in peers else root.peers == peers


def test_propagation_by_default(runtime: Runtime, bundle: Bundle) -> None:
    """Nothing goes out to the host; what comes in is left open by the specification."""
    assert mountinfo.find(runtime.probe(bundle)["mountinfo"], "/").peers <= {"master"}


@pytest.mark.spec("/linux/rootfsPropagation")
@pytest.mark.parametrize(
    ("propagation", "arrives"), [("rprivate", False), ("rslave", True), ("rshared", True)]
)
def test_mounts_of_the_host_arrive(
    runtime: Runtime, bundle: Bundle, propagation: str, arrives: bool
) -> None:
    """With (r)slave or (r)shared, what the host mounts later on a bound folder is seen inside."""
    shared = bundle.path / "shared"
    (shared / "sub").mkdir(parents=True)
    subprocess.run(["mount", "--bind", shared, shared], check=True)
    try:
        bundle.set("/linux/rootfsPropagation", propagation)
        bundle.mount("/mnt", "bind", str(shared), "rbind", propagation)
        script = "while [ ! -e /mnt/go ]; do sleep 0.02; done; ls /mnt/sub; echo end"
        created = runtime.create(bundle.sh(script)).ok()
        runtime.start(bundle.id).ok()
        subprocess.run(["mount", "-t", "tmpfs", "none", shared / "sub"], check=True)
        (shared / "sub/seen").touch()
        (shared / "go").touch()
        wait_for(lambda: created.out.endswith("end\n"), "the container's answer")
        assert ("seen" in created.out) == arrives
    finally:
        subprocess.run(["umount", "--recursive", shared], check=True)


def test_mounts_of_the_container_stay_inside(runtime: Runtime, bundle: Bundle) -> None:
    """Even where the host's mounts are shared. The leak check looks at the host afterwards."""
    bundle.mount("/mnt", "tmpfs", "none")
    runtime.create(bundle.sleeper()).ok()
    runtime.start(bundle.id).ok()
    assert str(bundle.path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.spec("/root/path")
def test_rootfs_through_a_symlink(runtime: Runtime, bundle: Bundle) -> None:
    os.symlink("rootfs", bundle.path / "link")
    bundle.set("/root/path", "link").sh("echo fine")
    assert runtime.run(bundle).ok().out == "fine\n"


def test_rootfs_on_a_mount_of_its_own(runtime: Runtime, bundle: Bundle) -> None:
    subprocess.run(["mount", "--bind", bundle.rootfs, bundle.rootfs], check=True)
    try:
        assert runtime.run(bundle.sh("echo fine")).ok().out == "fine\n"
    finally:
        subprocess.run(["umount", bundle.rootfs], check=True)


def test_no_pivot(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("cd /../../..; ls /")
    inside = runtime.run(bundle, "--no-pivot").ok().out.split()
    assert inside == sorted(p.name for p in bundle.rootfs.iterdir())
