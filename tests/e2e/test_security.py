"""Attacks by an image or a config on the host: what must not be reached, followed or inherited.

Oracle: a canary beside the bundle is untouched, the leak check finds nothing,
and the outcome is a clean error or the right effect inside the container.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lib import mountinfo
from lib.bundle import Bundle
from lib.rootfs import up
from lib.runtime import CHECKOUT, Runtime, wait_for
from lib.terminal import ConsoleSocket, Terminal

# Symlinks at the places where the runtime makes or mounts things


@pytest.mark.parametrize("style", ["absolute", "climbing"])
@pytest.mark.parametrize("type", ["tmpfs", "bind"])
@pytest.mark.parametrize("destination", ["/link", "/link/new", "/link/new/deeper", "/link/file"])
def test_mount_through_a_symlink(
    runtime: Runtime, bundle: Bundle, canary: Path, style: str, type: str, destination: str
) -> None:
    os.symlink(str(canary) if style == "absolute" else up(canary), bundle.rootfs / "link")
    options = ("bind",) if type == "bind" else ()
    bundle.mount(destination, type, str(bundle.rootfs / "etc"), *options)
    runtime.run(bundle.sh("true"))  # a clean error will do as well


@pytest.mark.parametrize("name", ["proc", "sys"])
@pytest.mark.parametrize("target", ["/tmp", "canary", "."])
def test_proc_and_sys_as_symlinks_are_refused(
    runtime: Runtime, bundle: Bundle, canary: Path, name: str, target: str
) -> None:
    """CVE-2019-19921, CVE-2023-27561: labels and masks would miss."""
    (bundle.rootfs / name).rmdir()
    os.symlink(str(canary) if target == "canary" else target, bundle.rootfs / name)
    runtime.run(bundle.sh("echo ran")).failed()


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("style", ["absolute", "climbing"])
@pytest.mark.parametrize(
    "place", ["dev", "dev/pts", "dev/shm", "dev/console", "dev/ptmx", "dev/null", "dev/fd"]
)
@pytest.mark.parametrize("own_dev", [True, False], ids=["tmpfs-on-dev", "dev-of-the-image"])
def test_symlinks_in_dev(
    runtime: Runtime,
    bundle: Bundle,
    canary: Path,
    place: str,
    style: str,
    terminal: bool,
    own_dev: bool,
) -> None:
    """CVE-2025-52565, CVE-2025-31133: nodes that the runtime makes follow links of the image."""
    if not own_dev:
        for mount in ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"):
            bundle.drop_mount(mount)
        bundle.mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666")
    target = (
        canary / Path(place).name
        if place.startswith("dev/") and place[4:] in ("null", "console", "ptmx")
        else canary
    )
    link = bundle.rootfs / place
    if link.is_dir():
        link.rmdir()
    os.symlink(str(target) if style == "absolute" else up(target), link)
    bundle.set("/root/readonly", False).sh("true").set("/process/terminal", terminal)
    if not terminal:
        runtime.run(bundle)
        return
    with ConsoleSocket(bundle.path / "console-socket") as server:
        if runtime.create(bundle, "--console-socket", server.path).status == 0:
            with server.receive() as console:
                runtime.start(bundle.id)
                assert not os.path.samefile(f"/proc/self/fd/{console.master}", canary)


@pytest.mark.parametrize("what", ["file", "fifo", "folder", "other-device"])
def test_something_else_for_dev_null(
    runtime: Runtime, bundle: Bundle, canary: Path, what: str
) -> None:
    """CVE-2025-31133: a mask must come from the real /dev/null, or create fails."""
    for mount in ("/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"):
        bundle.drop_mount(mount)
    node = bundle.rootfs / "dev/null"
    if what == "file":
        node.write_text("fake")
    elif what == "fifo":
        os.mkfifo(node)
    elif what == "folder":
        node.mkdir()
    else:
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    (bundle.rootfs / "opt/secret").write_text("secret")
    bundle.add("/linux/maskedPaths", "/opt/secret")
    result = runtime.run(bundle.sh("cat /opt/secret; stat -c %t:%T /dev/null"))
    if result.status == 0:
        assert result.out == "1:3\n"


@pytest.mark.parametrize("place", ["masked", "readonly"])
def test_masked_path_that_is_a_symlink(
    runtime: Runtime, bundle: Bundle, canary: Path, place: str
) -> None:
    os.symlink(up(canary / "file"), bundle.rootfs / "opt/link")
    bundle.add(f"/linux/{place}Paths", "/opt/link")
    runtime.run(bundle.sh("true"))


def test_cwd_through_a_symlink_to_the_host(runtime: Runtime, bundle: Bundle, canary: Path) -> None:
    os.symlink(up(canary), bundle.rootfs / "opt/link")
    bundle.set("/root/readonly", False).set("/process/cwd", "/opt/link/new").sh("pwd; ls")
    runtime.run(bundle)


def test_device_through_a_symlink(runtime: Runtime, bundle: Bundle, canary: Path) -> None:
    os.symlink(up(canary), bundle.rootfs / "opt/link")
    device = {"path": "/opt/link/node", "type": "c", "major": 1, "minor": 3}
    runtime.run(bundle.set("/root/readonly", False).add("/linux/devices", device).sh("true"))


# Descriptors


@pytest.fixture
def leaking(runtime: Runtime) -> Iterator[dict[str, object]]:
    """Options of `call` with which the runtime starts with descriptors 30-60 open on /."""
    root = os.open("/", os.O_RDONLY)
    fds = list(range(30, 61))
    for fd in fds:
        os.dup2(root, fd)
    yield {"pass_fds": fds}
    for fd in [root, *fds]:
        os.close(fd)


@pytest.mark.parametrize("number", [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 30, 45, 60])
@pytest.mark.parametrize("way", ["cwd", "argument", "link"])
def test_leaked_descriptor(
    runtime: Runtime, bundle: Bundle, leaking: dict[str, object], number: int, way: str
) -> None:
    """CVE-2024-21626: a descriptor of the host's tree as the working folder, or in a path."""
    path = f"/proc/self/fd/{number}"
    script = 'ls -d etc/hostname ../../../../etc/debian_version 2>/dev/null && echo "escaped"; true'
    if way == "cwd":
        bundle.sh(script).set("/process/cwd", path)
    elif way == "link":
        os.symlink(path, bundle.rootfs / "opt/link")
        bundle.sh(script).set("/process/cwd", "/opt/link")
    else:
        bundle.args(f"{path}/bin/true")
    result = runtime.run(bundle, **leaking)
    assert "escaped" not in result.out
    assert way != "argument" or result.status != 0


def test_descriptors_of_the_waiting_process(runtime: Runtime, bundle: Bundle) -> None:
    """Between create and start nothing inside holds a folder of the host open."""
    runtime.create(bundle.sleeper()).ok()
    pid = runtime.state(bundle.id)["pid"]
    own = os.stat(bundle.rootfs)
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        facts = os.stat(fd)
        if stat.S_ISDIR(facts.st_mode):
            assert (facts.st_dev, facts.st_ino) == (own.st_dev, own.st_ino), os.readlink(fd)


def test_waiting_process_cannot_be_looked_into(runtime: Runtime, bundle: Bundle) -> None:
    """CVE-2016-9962: not dumpable, so even root of the host needs CAP_SYS_PTRACE (ptrace(2))."""
    runtime.create(bundle.sleeper()).ok()
    exe = f"/proc/{runtime.state(bundle.id)['pid']}/exe"
    unprivileged = ["setpriv", "--bounding-set=-sys_ptrace", "readlink"]
    looked = subprocess.run([*unprivileged, exe], capture_output=True, timeout=20)
    assert looked.returncode != 0
    runtime.start(bundle.id).ok()
    runtime.wait_status(bundle.id, "running")
    wait_for(
        lambda: subprocess.run([*unprivileged, exe], capture_output=True).returncode == 0,
        "the program, which may be looked into",
    )


# What the runtime itself is made of


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("way", ["argument", "script"])
def test_interpreter_cannot_be_written_from_inside(
    runtime: Runtime, bundle: Bundle, way: str
) -> None:
    """CVE-2019-5736: the container executes the host's interpreter, keeps it, and writes to it later."""
    if os.uname().machine != "x86_64":
        pytest.skip("the hostile loader is written for x86-64")
    loader = bundle.rootfs / "lib64/ld-linux-x86-64.so.2"
    loader.parent.mkdir()
    source = CHECKOUT / "tests/lib/loader.c"
    flags = ["-O1", "-nostdlib", "-static-pie", "-fPIE", "-fno-stack-protector"]
    subprocess.run(["gcc", *flags, "-o", loader, source], check=True)
    script = bundle.rootfs / "opt/script"
    script.write_text("#!/proc/self/exe\n")
    script.chmod(0o755)
    result = runtime.run(bundle.args("/proc/self/exe" if way == "argument" else "/opt/script"))
    assert "writable" not in result.out


PYTHON_PLACES = [
    "/usr/lib/python3.11",
    "/usr/lib/python3",
    "/usr/local/lib/python3.11",
    "/lib/x86_64-linux-gnu",
]


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("failing", [False, True], ids=["success", "failure"])
def test_nothing_of_the_image_is_loaded(runtime: Runtime, bundle: Bundle, failing: bool) -> None:
    """CVE-2019-14271: modules and libraries at the host's places in the image are left alone."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    places = {
        *PYTHON_PLACES,
        str(CHECKOUT),
        os.path.dirname(os.__file__),
        sys.prefix,
        sys.base_prefix,
    }
    for place in places:
        folder = bundle.rootfs / place.lstrip("/")
        (folder / "encodings").mkdir(parents=True, exist_ok=True)
        for name in ("os.py", "posix.py", "traceback.py", "encodings/idna.py", "encodings/utf_8.py",
                     "libnss_files.so.2", "libgcc_s.so.1"):  # fmt: skip
            (folder / name).write_text("raise SystemExit('trapped')\n")
    bundle.args("/bin/not-there" if failing else "/bin/true").write()
    trace = bundle.path / "trace"
    prefix = (
        "strace",
        "-f",
        "-s",
        "300",
        "-e",
        "trace=pivot_root,open,openat,openat2,execve",
        "-o",
        str(trace),
    )
    result = runtime.run(bundle, prefix=prefix)
    assert (result.status != 0) == failing
    assert "trapped" not in result.err + result.out
    lines = trace.read_text().splitlines()
    pivot = next(n for n, line in enumerate(lines) if "pivot_root(" in line)
    child = lines[pivot].split()[0]
    inside = [line for line in lines[pivot + 1 :] if line.split()[0] == child]
    end = next((n for n, line in enumerate(inside) if "execve(" in line), len(inside))
    opened = {m[1] for line in inside[:end] if (m := re.search(r'open\w*\([^"]*"([^"]*)"', line))}
    suspicious = {
        p
        for p in opened
        if p.endswith((".py", ".pyc", ".so")) or ".so." in p or "/lib" in p or "python" in p
    }
    assert suspicious == set()


def test_no_new_abstract_socket(runtime: Runtime, bundle: Bundle) -> None:
    """CVE-2020-15257: a container in the host's network could reach it."""
    bundle.drop_namespace("network").drop_mount("/sys").sh("sleep 0.1; cat /proc/net/unix")
    bundle.drop_mount("/sys/fs/cgroup")
    before = set(re.findall(r"@\S+", Path("/proc/net/unix").read_text()))
    seen = set(re.findall(r"@\S+", runtime.run(bundle).ok().out))
    assert not {name for name in seen - before if runtime.kind in name}


@pytest.mark.parametrize("terminal", [False, True])
def test_input_cannot_be_pushed_into_the_callers_terminal(
    runtime: Runtime, bundle: Bundle, terminal: bool
) -> None:
    """CVE-2017-5226: TIOCSTI needs the controlling terminal, which is not handed on."""
    bundle.args("/bin/probe", "--tiocsti").set("/process/terminal", terminal)
    with Terminal() as outside:
        outside.spawn(runtime.argv("run", "--bundle", bundle.write(), bundle.id))
        assert outside.wait() == 0
        if not terminal:
            assert outside.seen.startswith(b"-1 ")
        subprocess.run(["true"], stdin=outside.slave, check=True)


def test_groups_of_the_caller_in_a_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    report = runtime.probe(bundle.user_namespace(), extra_groups=[1, 2, 3])
    assert report["groups"] == []


def test_numbers_are_not_looked_up(runtime: Runtime, bundle: Bundle) -> None:
    """CVE-2016-3697: a passwd line whose name is a number. The image has one."""
    assert "\n1000:x:0:0" in (bundle.rootfs / "etc/passwd").read_text()
    report = runtime.probe(bundle.set("/process/user", {"uid": 1000, "gid": 1000}))
    assert report["uids"] == [1000] * 4


# Sizes


@pytest.mark.parametrize(
    "prepare",
    [
        lambda b: b.set("/hostname", "x" * 70000),
        lambda b: b.set("/linux/uidMappings", [{"containerID": n, "hostID": 100000 + n, "size": 1} for n in range(100000)]),
        lambda b: b.set("/process/cwd", "/" + "x" * 70000),
        lambda b: b.mount("/mnt", "tmpfs", "x", "size=" + "1" * 70000),
        lambda b: b.mount("/" + "x/" * 35000, "tmpfs", "x"),
        lambda b: b.set("/linux/sysctl", {"net." + "x" * 70000: "1"}),
        lambda b: b.set("/root/path", "x" * 70000),
    ],
    ids=["hostname", "mappings", "cwd", "data", "destination", "sysctl", "root"],
)  # fmt: skip
def test_huge_fields(runtime: Runtime, bundle: Bundle, prepare: object) -> None:
    """CVE-2021-43784: a length that wraps. Refused with a message, and nothing left."""
    assert callable(prepare)
    prepare(bundle)
    if "uidMappings" in bundle.config["linux"]:
        bundle.namespace("user").set("/linux/gidMappings", bundle.config["linux"]["uidMappings"])
    runtime.run(bundle).failed()


def test_deep_json(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.path / "config.json").write_text('{"annotations": ' + "[" * 200000)
    runtime.call("run", "--bundle", bundle.path, bundle.id).failed()


# Rootless reach


@pytest.mark.parametrize("namespace", [True, False])
def test_cgroups_are_readonly_inside(runtime: Runtime, bundle: Bundle, namespace: bool) -> None:
    """CVE-2023-25809."""
    if namespace:
        bundle.namespace("cgroup")
    bundle.user_namespace().sh(
        "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $d/x 2>/dev/null && echo made; done; true"
    )
    assert runtime.run(bundle).ok().out == ""


def test_no_mount_of_the_host_is_writable_through_proc(runtime: Runtime, bundle: Bundle) -> None:
    text = runtime.probe(bundle)["mountinfo"]
    for point in ("/proc/sys", "/proc/irq", "/proc/bus"):
        assert "ro" in mountinfo.find(text, point).flags
