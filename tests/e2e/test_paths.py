"""root, linux.maskedPaths and linux.readonlyPaths: every kind of place that they can name."""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from lib import mountinfo
from lib.bundle import Bundle
from lib.runtime import Runtime

# The root


def absolute(bundle: Bundle) -> str:
    return str(bundle.rootfs)


def aside(bundle: Bundle) -> str:
    return f"../{bundle.path.name}/rootfs"


def odd_name(bundle: Bundle) -> str:
    bundle.rootfs.rename(bundle.path / "a b:c,d\\e\n")
    return "a b:c,d\\e\n"


@pytest.mark.spec("/root", "/root/path")
@pytest.mark.parametrize(
    "path", ["rootfs", "./rootfs", "rootfs/", ".//rootfs/.", absolute, aside, odd_name]
)
def test_root(runtime: Runtime, bundle: Bundle, path: str | Callable[[Bundle], str]) -> None:
    bundle.set("/root/path", path(bundle) if callable(path) else path).sh("cat /etc/group").write()
    result = runtime.call("run", "--bundle", bundle.path, bundle.id, cwd="/")
    assert "extra:x:2000" in result.ok().out


@pytest.mark.spec("/root/path")
@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nothing", "no such file|not exist"),
        ("config.json", "not a directory|no such file|invalid argument"),
        ("", "empty|no such file|root"),
        ("/", "root of the host"),
    ],
)
@pytest.mark.only("ocirun")  # crun takes the host's root, runc names the error of a later step
def test_no_root(runtime: Runtime, bundle: Bundle, path: str, words: str) -> None:
    runtime.run(bundle.set("/root/path", path)).failed(words)


@pytest.mark.spec("/root/readonly")
@pytest.mark.parametrize("user", [False, True], ids=["root", "user-namespace"])
@pytest.mark.parametrize("readonly", [False, True, None])
@pytest.mark.parametrize("propagation", [None, "rslave", "rshared"])
def test_readonly(
    runtime: Runtime, bundle: Bundle, readonly: bool | None, propagation: str | None, user: bool
) -> None:
    if readonly is None:
        bundle.drop("/root/readonly")
    else:
        bundle.set("/root/readonly", readonly)
    if propagation:
        bundle.set("/linux/rootfsPropagation", propagation)
    if user:
        bundle.user_namespace()
        os.chown(bundle.rootfs / "opt", 100000, 100000)
    flags = mountinfo.find(runtime.probe(bundle)["mountinfo"], "/").flags
    assert ("ro" in flags) == bool(readonly)
    result = runtime.run(bundle.sh("touch /opt/new"))
    assert (bundle.rootfs / "opt/new").exists() == (not readonly)
    assert ("read-only" in result.err.lower()) == bool(readonly)


@pytest.mark.spec("/root/readonly")
def test_readonly_root_still_gets_its_mount_points(runtime: Runtime, bundle: Bundle) -> None:
    bundle.mount("/new/place", "tmpfs", "mark").sh("touch /new/place/x && echo fine")
    assert runtime.run(bundle).ok().out == "fine\n"


def test_readonly_root_of_what_is_mounted_below(runtime: Runtime, bundle: Bundle) -> None:
    """The tree at root.path comes along; the root alone becomes read-only."""
    subprocess.run(["mount", "-t", "tmpfs", "none", bundle.rootfs / "opt"], check=True)
    try:
        text = runtime.probe(bundle)["mountinfo"]
        assert "ro" in mountinfo.find(text, "/").flags
        assert "rw" in mountinfo.find(text, "/opt").flags
    finally:
        subprocess.run(["umount", bundle.rootfs / "opt"], check=True)


# Masked and read-only paths


@pytest.fixture
def image(bundle: Bundle) -> Path:
    """Places of all kinds in the image, below /opt."""
    opt = bundle.rootfs / "opt"
    (opt / "folder/below").mkdir(parents=True)
    (opt / "folder/file").write_text("secret")
    (opt / "folder/below/file").write_text("secret")
    (opt / "file").write_text("secret")
    os.mkfifo(opt / "fifo")
    os.mknod(opt / "device", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    os.symlink("/opt/file", opt / "to-file")
    os.symlink("folder", opt / "to-folder")
    os.symlink("nothing", opt / "dangling")
    bundle.set("/root/readonly", False)
    return opt


@pytest.mark.spec("/linux/maskedPaths")
@pytest.mark.parametrize(
    ("path", "script"),
    [
        ("/opt/file", "cat /opt/file"),
        ("/opt/to-file", "cat /opt/to-file /opt/file"),
        ("/opt/folder", "ls -A /opt/folder"),
        ("/opt/folder/", "ls -A /opt/folder"),
        ("/opt/to-folder", "ls -A /opt/folder /opt/to-folder/"),
        ("/opt/./folder/../folder", "ls -A /opt/folder"),
        ("/opt/folder/below", "ls -A /opt/folder/below"),
        ("/opt/fifo", "test -p /opt/fifo && echo there"),
        ("/opt/device", "head -c 3 /opt/device"),
        ("/proc/cpuinfo", "cat /proc/cpuinfo"),
        ("/proc/sys/kernel/ostype", "cat /proc/sys/kernel/ostype"),
        ("/sys/kernel", "ls -A /sys/kernel"),
        ("/dev/shm", "ls -A /dev/shm; touch /dev/shm/x"),
    ],
)
@pytest.mark.parametrize("user", [False, True], ids=["root", "user-namespace"])
def test_masked(
    runtime: Runtime, bundle: Bundle, image: Path, path: str, script: str, user: bool
) -> None:
    if user:
        bundle.user_namespace()
    before = runtime.run(bundle.sh(f"exec 2>&1; {script} | tr -d '\\0'; {script} | wc -c")).out
    assert user or before.split("\n")[0] != "" or path in ("/opt/device", "/dev/shm")
    bundle.add("/linux/maskedPaths", path).sh(script)
    result = runtime.run(bundle)
    assert result.out.replace("/opt/folder:", "").replace("/opt/to-folder/:", "").strip() == ""


@pytest.mark.spec("/linux/maskedPaths")
def test_a_masked_folder_hides_what_is_mounted_in_it(
    runtime: Runtime, bundle: Bundle, image: Path
) -> None:
    bundle.mount("/opt/folder/below", "bind", str(image / "folder"), "bind")
    bundle.mount("/opt/other", "bind", str(image / "folder"), "bind")
    bundle.add("/linux/maskedPaths", "/opt/folder", "/opt/other", "/opt/folder")
    bundle.sh("ls -A /opt/folder /opt/other | grep -v :; ls /opt/folder/below")
    result = runtime.run(bundle)
    assert result.out.strip() == ""
    assert "no such file" in result.err.lower()


@pytest.mark.spec("/linux/maskedPaths", "/linux/readonlyPaths")
@pytest.mark.parametrize("kind_of_path", ["maskedPaths", "readonlyPaths"])
@pytest.mark.parametrize("path", ["/nothing", "/nothing/below", "/opt/file/below"])
def test_missing(
    runtime: Runtime, bundle: Bundle, image: Path, kind_of_path: str, path: str
) -> None:
    bundle.add(f"/linux/{kind_of_path}", path).sh("echo fine")
    assert runtime.run(bundle).ok().out == "fine\n"
    assert not (bundle.rootfs / path[1:]).exists()


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("kind_of_path", ["maskedPaths", "readonlyPaths"])
def test_dangling(runtime: Runtime, bundle: Bundle, image: Path, kind_of_path: str) -> None:
    bundle.add(f"/linux/{kind_of_path}", "/opt/dangling").sh("echo fine")
    assert runtime.run(bundle).ok().out == "fine\n"
    assert not (image / "nothing").exists()


@pytest.mark.spec("/linux/readonlyPaths")
@pytest.mark.parametrize(
    ("path", "touched"),
    [
        ("/opt/file", "/opt/file"),
        ("/opt/to-file", "/opt/file"),
        ("/opt/folder", "/opt/folder/below/new"),
        ("/opt/to-folder", "/opt/folder/new"),
        ("/opt/folder/below", "/opt/folder/below/new"),
        ("/dev/shm", "/dev/shm/new"),
        ("/opt", "/opt/new"),
    ],
)
@pytest.mark.parametrize("user", [False, True], ids=["root", "user-namespace"])
def test_read_only(
    runtime: Runtime, bundle: Bundle, image: Path, path: str, touched: str, user: bool
) -> None:
    if user:
        bundle.user_namespace()
        subprocess.run(["chown", "-R", "100000:100000", image], check=True)
    runtime.run(bundle.sh(f"echo x >> {touched} && echo y >> /opt/folder/else")).ok()
    bundle.add("/linux/readonlyPaths", path).sh(f"echo x >> {touched}; echo end")
    result = runtime.run(bundle)
    assert "read-only" in result.err.lower()
    assert result.out == "end\n"


@pytest.mark.only("ocirun")  # runc and crun mount over what the process has as its root
def test_the_root_as_a_read_only_path(runtime: Runtime, bundle: Bundle, image: Path) -> None:
    bundle.add("/linux/readonlyPaths", "/opt/..").sh("touch /opt/new; touch /dev/shm/new && echo x")
    result = runtime.run(bundle)
    assert "read-only" in result.err.lower()
    assert result.out == "x\n"


@pytest.mark.only("ocirun")
def test_the_root_as_a_masked_path(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.add("/linux/maskedPaths", "/.")).failed("masked", "/linux/maskedPaths/")


@pytest.mark.spec("/linux/readonlyPaths")
def test_a_read_only_folder_with_a_mount_in_it(
    runtime: Runtime, bundle: Bundle, image: Path
) -> None:
    """The mount is another place, and keeps its flags."""
    bundle.mount("/opt/folder/below", "tmpfs", "mark", "nosuid")
    bundle.add("/linux/readonlyPaths", "/opt/folder")
    text = runtime.probe(bundle)["mountinfo"]
    assert "ro" in mountinfo.find(text, "/opt/folder").flags
    below = mountinfo.find(text, "/opt/folder/below")
    assert {"rw", "nosuid"} <= below.flags
    assert below.source == "mark"


@pytest.mark.spec("/linux/readonlyPaths")
def test_a_read_only_mount_keeps_its_flags(runtime: Runtime, bundle: Bundle, image: Path) -> None:
    bundle.mount("/opt/folder", "tmpfs", "mark", "nosuid", "noexec", "nodev", "noatime")
    bundle.add("/linux/readonlyPaths", "/opt/folder", "/opt/folder")
    seen = mountinfo.find(runtime.probe(bundle)["mountinfo"], "/opt/folder")
    assert {"ro", "nosuid", "noexec", "nodev", "noatime"} <= seen.flags


@pytest.mark.spec("/linux/maskedPaths", "/linux/readonlyPaths")
def test_masked_and_read_only(runtime: Runtime, bundle: Bundle, image: Path) -> None:
    bundle.add("/linux/readonlyPaths", "/opt/folder", "/opt/file")
    bundle.add("/linux/maskedPaths", "/opt/folder/below", "/opt/file")
    bundle.sh("ls -A /opt/folder/below; cat /opt/file /opt/folder/file; touch /opt/folder/x")
    result = runtime.run(bundle)
    assert result.out == "secret"
    assert "read-only" in result.err.lower()


@pytest.mark.spec("/linux/maskedPaths", "/linux/readonlyPaths")
@pytest.mark.only("ocirun")
@pytest.mark.parametrize("kind_of_path", ["maskedPaths", "readonlyPaths"])
def test_no_mount_namespace_for_them(runtime: Runtime, bundle: Bundle, kind_of_path: str) -> None:
    runtime.run(bundle.drop_namespace("mount")).failed("mount namespace")


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("kind_of_path", ["maskedPaths", "readonlyPaths"])
def test_very_many(runtime: Runtime, bundle: Bundle, image: Path, kind_of_path: str) -> None:
    bundle.set(f"/linux/{kind_of_path}", ["/opt/folder/below"] * 2000 + ["/x" * 500] * 2000)
    bundle.sh("touch /opt/folder/below/x || wc -l < /proc/self/mountinfo")
    assert int(runtime.run(bundle).ok().out) > 2000


# Labels


@pytest.mark.spec("/linux/mountLabel")
@pytest.mark.only("ocirun")  # the others go on without
def test_mount_label_without_selinux(runtime: Runtime, bundle: Bundle) -> None:
    if Path("/sys/fs/selinux/enforce").exists():
        pytest.skip("SELinux is enabled on this host")
    bundle.set("/linux/mountLabel", "system_u:object_r:container_file_t:s0:c1,c2")
    runtime.run(bundle).failed("SELinux", "/linux/mountLabel")
