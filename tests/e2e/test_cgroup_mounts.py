"""Mounts of type cgroup and cgroup2: what a container sees of its cgroups, and what it may change."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lib import mountinfo
from lib.bundle import Bundle
from lib.mountinfo import Mount
from lib.runtime import Runtime

PLACE = "/sys/fs/cgroup"
HIDDEN = {
    "v1": f"umount {PLACE}/unified && mount -t tmpfs none {PLACE}/unified",
    "v2": f"mount -t cgroup2 none {PLACE}",
}


@pytest.fixture
def see(runtime: Runtime) -> Iterator[None]:
    yield
    runtime.clear()
    runtime.prefix = ()


@pytest.fixture
def v1(runtime: Runtime, see: None) -> None:
    """v1 hierarchies, perhaps with the v2 one beside them, as this machine has them."""
    if not Path(f"{PLACE}/memory").is_dir():
        pytest.skip("no cgroup v1 hierarchies on this host")


@pytest.fixture
def v2(runtime: Runtime, see: None) -> None:
    """Nothing but the v2 hierarchy is in sight of the runtime."""
    if runtime.kind == "crun":
        pytest.skip("crun 1.8 raises RLIMIT_MEMLOCK there, which needs CAP_SYS_RESOURCE")
    runtime.prefix = ("unshare", "--mount", "sh", "-c", HIDDEN["v2"] + ' && exec "$@"', "sh")


def options(bundle: Bundle, *words: str, type: str = "cgroup") -> Bundle:
    """Replaces the options of the mount on /sys/fs/cgroup."""
    bundle.drop_mount(PLACE)
    return bundle.mount(PLACE, type, "cgroup", *words)


def views(runtime: Runtime, bundle: Bundle) -> dict[str, Mount]:
    """The mounts at and below /sys/fs/cgroup, by their name there."""
    mounts = mountinfo.parse(runtime.probe(bundle)["mountinfo"])
    return {m.point[len(PLACE) :]: m for m in mounts if (m.point + "/").startswith(PLACE + "/")}


def hierarchies() -> set[str]:
    """Names of the v1 hierarchies of the host's /sys/fs/cgroup."""
    mounts = mountinfo.parse(Path("/proc/self/mountinfo").read_text())
    return {m.point[len(PLACE) :] for m in mounts if m.type == "cgroup" and PLACE in m.point}


@pytest.mark.spec("/mounts/*/type", "/mounts/*/options", "/linux/cgroupsPath")
@pytest.mark.parametrize("namespace", [False, True])
def test_v1(runtime: Runtime, bundle: Bundle, v1: None, namespace: bool) -> None:
    if namespace:
        bundle.namespace("cgroup")
    found = views(runtime, bundle)
    assert found.pop("").type == "tmpfs"
    assert set(found) == hierarchies()
    for mount in found.values():
        assert mount.type == "cgroup"
        assert {"ro", "nosuid", "nodev", "noexec"} <= mount.flags
        assert mount.root == ("/" if namespace else f"/ocirun-test/{bundle.id}")


@pytest.mark.parametrize("namespace", [False, True])
def test_v1_is_the_containers_own(
    runtime: Runtime, bundle: Bundle, v1: None, namespace: bool
) -> None:
    if namespace:
        bundle.namespace("cgroup")
    bundle.sh(f"cat {PLACE}/memory/cgroup.procs; mkdir {PLACE}/memory/x {PLACE}/x; echo {PLACE}/*")
    seen = runtime.run(bundle)
    assert seen.out.split()[0] == "1"
    assert len(re.findall("read-only|permission denied", seen.err.lower())) == 2
    assert set(seen.out.splitlines()[-1].split()) >= {PLACE + name for name in hierarchies()}


@pytest.mark.spec("/mounts/*/options")
@pytest.mark.parametrize("namespace", [False, True])
def test_v1_writable(runtime: Runtime, bundle: Bundle, v1: None, namespace: bool) -> None:
    """What the container makes in it is gone with it."""
    if namespace:
        bundle.namespace("cgroup")
    options(bundle, "nosuid", "rw")
    bundle.sh(
        f"mkdir {PLACE}/memory/a {PLACE}/memory/a/b && echo made; echo 1 > {PLACE}/memory/a/tasks"
    )
    runtime.create(bundle).ok()
    runtime.start(bundle.id).ok()
    runtime.wait_status(bundle.id, "stopped")
    runtime.delete(bundle.id).ok()
    assert not Path(f"{PLACE}/memory/ocirun-test/{bundle.id}").exists()


def test_v1_in_a_user_namespace(runtime: Runtime, bundle: Bundle, v1: None) -> None:
    found = views(runtime, bundle.namespace("cgroup").user_namespace())
    assert "ro" in found["/memory"].flags
    assert found["/memory"].root == "/"


@pytest.mark.only("ocirun")  # crun gives it the root's, runc gives none to the root
def test_propagation_of_the_view(runtime: Runtime, bundle: Bundle, v1: None) -> None:
    bundle.set("/linux/rootfsPropagation", "rshared")
    assert views(runtime, options(bundle, "ro", "rprivate"))[""].peers == set()
    assert views(runtime, options(bundle, "ro"))[""].peers == {"shared"}


@pytest.mark.only("ocirun", "runc")
def test_v2_beside_v1(runtime: Runtime, bundle: Bundle, v1: None) -> None:
    if not Path(f"{PLACE}/unified/cgroup.procs").exists():
        pytest.skip("no cgroup v2 hierarchy on this host")
    options(bundle.namespace("cgroup"), "ro", type="cgroup2")
    found = views(runtime, bundle)
    assert {name: (m.type, m.root) for name, m in found.items()} == {"": ("cgroup2", "/")}
    assert "ro" in found[""].flags


@pytest.mark.only("ocirun")
def test_no_v2_to_be_seen(runtime: Runtime, bundle: Bundle, see: None) -> None:
    runtime.prefix = ("unshare", "--mount", "sh", "-c", HIDDEN["v1"] + ' && exec "$@"', "sh")
    runtime.run(options(bundle, "ro", type="cgroup2")).failed("no cgroup v2")


@pytest.mark.spec("/mounts/*/type", "/mounts/*/options")
@pytest.mark.parametrize("type", ["cgroup", "cgroup2"])
@pytest.mark.parametrize("namespace", [False, True])
def test_v2(runtime: Runtime, bundle: Bundle, v2: None, type: str, namespace: bool) -> None:
    options(bundle, "ro", "nosuid", "noexec", type=type)
    if namespace:
        bundle.namespace("cgroup")
    found = views(runtime, bundle)
    assert set(found) == {""}
    assert found[""].type == "cgroup2"
    assert {"ro", "nosuid", "noexec"} <= found[""].flags
    here = PLACE if namespace else f"{PLACE}/ocirun-test/{bundle.id}"
    seen = runtime.run(bundle.sh(f"cat {here}/cgroup.procs; mkdir {here}/x || echo refused"))
    assert (seen.out.split()[0], seen.out.split()[-1]) == ("1", "refused")


@pytest.mark.parametrize("namespace", [False, True])
def test_v2_writable(runtime: Runtime, bundle: Bundle, v2: None, namespace: bool) -> None:
    options(bundle, "rw")
    if namespace:
        bundle.namespace("cgroup")
    here = PLACE if namespace else f"{PLACE}/ocirun-test/{bundle.id}"
    script = f"mkdir {here}/a {here}/a/b && echo 1 > {here}/a/cgroup.procs && cat /proc/self/cgroup"
    assert runtime.run(bundle.sh(script)).ok().out.strip().endswith("/a")
    left = subprocess.run(
        ["find", f"{PLACE}/unified/ocirun-test", "-name", bundle.id], capture_output=True, text=True
    )
    assert left.stdout == ""


@pytest.mark.parametrize("namespace", [False, True])
def test_v2_in_a_user_namespace(
    runtime: Runtime, bundle: Bundle, v2: None, namespace: bool
) -> None:
    """Without a cgroup namespace the kernel refuses a mount: then the host's is shown."""
    bundle.user_namespace()
    if namespace:
        bundle.namespace("cgroup")
    found = views(runtime, bundle)
    assert (found[""].type, "ro" in found[""].flags) == ("cgroup2", True)


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("word", ["nsdelegate", "memory_recursiveprot", "nonsense"])
def test_options_of_the_hosts_hierarchy_are_not_changed(
    runtime: Runtime, bundle: Bundle, v2: None, word: str
) -> None:
    """A mount out of the host's cgroup namespace would set them anew, for all."""
    runtime.run(options(bundle, "ro", word).sh("true")).failed(word, "host")


@pytest.mark.only("ocirun")
def test_options_of_v2_in_a_cgroup_namespace(runtime: Runtime, bundle: Bundle, v2: None) -> None:
    runtime.run(options(bundle.namespace("cgroup"), "ro", "nsdelegate").sh("true")).ok()
    runtime.run(options(bundle, "ro", "nonsense").sh("true")).failed("nonsense")
