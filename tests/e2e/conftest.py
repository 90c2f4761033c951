"""Fixtures of the end-to-end tests: the runtime under test, bundles, the leak check.

`RUNTIME=` names the runtime (a path, or a name in PATH; default: the launcher
that the Makefile builds). All tests of this folder need root. They run in a
mount namespace of their own whose `/` is shared, as systemd leaves it, so that
a mount that escapes from a container is seen.
"""

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from lib import leaks
from lib.bundle import Bundle
from lib.checkpoint import SECONDS, Images
from lib.differences import DIFFERENCES, NOT_RUN, known
from lib.rootfs import RootfsSource
from lib.runtime import Runtime, executable, kind_of
from lib.user import Installation, User, rootless

HERE = Path(__file__).parent
CLONE_NEWNS = 0x20000
MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 0x1000, 0x4000, 1 << 18, 1 << 20
libc = ctypes.CDLL(None, use_errno=True)
numbers = count(1)


def check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only(*kinds): the runtimes that have this feature")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        kind = kind_of(executable())
    except FileNotFoundError:
        return  # the fixture `runtime_path` says so, once for each test
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.root)
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))
        only = item.get_closest_marker("only")
        if only and kind not in only.args:
            item.add_marker(pytest.mark.skip(reason=f"a feature of {' and '.join(only.args)}"))
        test = f"{item.path.stem.removeprefix('test_')}::{item.name}"
        if reason := known(DIFFERENCES, kind, test):
            item.add_marker(pytest.mark.xfail(reason=f"{kind}: {reason}", strict=True))
        if reason := known(NOT_RUN, kind, test):
            item.add_marker(pytest.mark.skip(reason=f"{kind}: {reason}"))


@pytest.fixture(scope="session")
def runtime_path() -> Path:
    try:
        return executable()
    except FileNotFoundError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def kind(runtime_path: Path) -> str:
    """Name of the runtime under test: "ocirun", "runc" or "crun"."""
    return kind_of(runtime_path)


@pytest.fixture(scope="package")
def mount_namespace(kind: str, session_folder: Path) -> Iterator[None]:
    """A mount namespace for all tests of this folder; left again after the last one."""
    home = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    check(libc.unshare(CLONE_NEWNS), "unshare")
    check(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "make private")
    check(libc.mount(None, b"/", None, MS_REC | MS_SHARED, None), "make shared")
    if kind == "crun" and Path("/sys/fs/cgroup/unified").is_dir():
        # crun refuses a hybrid layout. Without the v2 mount it sees plain v1, and makes its
        # folders there all the same: so a tmpfs that vanishes takes its place.
        check(libc.umount2(b"/sys/fs/cgroup/unified", 0), "umount")
        check(libc.mount(b"none", b"/sys/fs/cgroup/unified", b"tmpfs", 0, None), "tmpfs")
        # crun gives its standard streams to root of the user namespace, and would change the
        # owner of the host's /dev/null. It gets another one.
        os.mknod(session_folder / "null", 0o20666, os.makedev(1, 3))
        (session_folder / "null").chmod(0o666)
        null = bytes(session_folder / "null")
        check(libc.mount(null, b"/dev/null", None, MS_BIND, None), "bind /dev/null")
        leaks.WATCHED_DEVICES.remove("null")
    leaks.become_reaper()
    yield
    leaks.remove_parents()
    check(libc.setns(home, CLONE_NEWNS), "setns")
    os.close(home)


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """Not below pytest's own temporary folder: a user namespace's root must get through."""
    folder = Path(tempfile.mkdtemp(prefix="ocirun-e2e-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def rootfs_source(session_folder: Path) -> RootfsSource:
    folder = session_folder / "source"
    folder.mkdir()
    return RootfsSource(folder)


@pytest.fixture
def folder(session_folder: Path) -> Iterator[Path]:
    """An empty folder of the test, mode 0711, which root of a user namespace can enter."""
    path = session_folder / f"test-{next(numbers)}"
    path.mkdir(mode=0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def no_leaks(mount_namespace: None, rootfs_source: RootfsSource) -> Iterator[None]:
    """Mounts, cgroups, processes and descriptors are after the test what they were before."""
    before = leaks.Snapshot.take()
    yield
    left = leaks.leaks_since(before)
    if left:
        leaks.sweep(before)
    assert not left, "left behind:\n" + "\n".join(left)


@pytest.fixture
def runtime(runtime_path: Path, kind: str, folder: Path, no_leaks: None) -> Iterator[Runtime]:
    """The runtime under test. Its state folder must be empty after `delete --force` of all."""
    driver = Runtime(runtime_path, kind, folder)
    yield driver
    driver.clear()
    assert driver.containers() == []


@pytest.fixture
def make_bundle(folder: Path, rootfs_source: RootfsSource) -> Callable[..., Bundle]:
    """Makes further bundles in a test that needs more than one."""

    def make(*args: str) -> Bundle:
        path = folder / f"bundle-{next(numbers)}"
        path.mkdir(mode=0o711)
        container = f"{leaks.PREFIX}{next(numbers)}"
        bundle = Bundle(path, rootfs_source.fill(path / "rootfs"), container)
        return bundle.args(*args) if args else bundle

    return make


@pytest.fixture
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    """A bundle whose process is the probe."""
    return make_bundle()


@pytest.fixture
def installed(session_folder: Path, user: User) -> Installation:
    """What the user can execute and import."""
    return Installation(session_folder / "installed", user)


@pytest.fixture
def user(folder: Path, session_folder: Path, runtime: Runtime) -> User:
    """The caller of the runtime from here on, with a state folder of its own."""
    someone = User(folder)
    if runtime.kind == "ocirun":
        place = Installation(session_folder / "installed", someone)
        if not place.python:
            pytest.skip("no interpreter of the tests' version that an ordinary user can execute")
        runtime.path = place.launcher
    runtime.root = someone.run / "state"
    runtime.prefix = someone.prefix()
    return someone


@pytest.fixture
def box(user: User, bundle: Bundle) -> Bundle:
    """A rootless bundle whose process is the probe."""
    return rootless(bundle)


def fingerprint(folder: Path) -> list[tuple[object, ...]]:
    """Everything about a tree that an escape could change."""
    found: list[tuple[object, ...]] = []
    for path in [folder, *sorted(folder.rglob("*"))]:
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found.append(
            (
                str(path),
                facts.st_ino,
                facts.st_mode,
                facts.st_uid,
                facts.st_gid,
                facts.st_mtime_ns,
                content,
            )
        )
    return found


@pytest.fixture
def canary(bundle: Bundle) -> Iterator[Path]:
    """A folder of the host that symlinks in the image point to; it must stay as it is."""
    folder = bundle.path / "canary"
    (folder / "sub").mkdir(parents=True)
    for name in ("null", "console", "ptmx", "file", "sub/file"):
        (folder / name).write_text("canary")
    before = fingerprint(folder)
    core_pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    yield folder
    assert fingerprint(folder) == before
    assert Path("/proc/sys/kernel/core_pattern").read_text() == core_pattern


@pytest.fixture
def live(runtime: Runtime, bundle: Bundle) -> Bundle:
    """A container that runs, with a root file system that can be written to."""
    return runtime.started(bundle.set("/root/readonly", False))


@pytest.fixture
def source(bundle: Bundle) -> Path:
    """A folder of the host with a file."""
    path = bundle.path / "source"
    path.mkdir()
    (path / "file").write_text("of the host\n")
    return path


@pytest.fixture
def tree(source: Path) -> Iterator[Path]:
    """The same with a tmpfs on `sub`, mounted nosuid, in which is a file."""
    (source / "sub").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid", "none", source / "sub"], check=True)
    (source / "sub/below").touch()
    yield source
    subprocess.run(["umount", source / "sub"], check=True)


@pytest.fixture
def images(runtime: Runtime, folder: Path) -> Images:
    """Folders for images of checkpoints."""
    made = Images(runtime, folder)
    made.folder.mkdir()
    return made


@pytest.fixture
def start(runtime: Runtime) -> Callable[..., int]:
    """Starts a container in the background, with a root that can be written to; its pid."""

    def begin(bundle: Bundle, *options: str | Path) -> int:
        bundle.set("/root/readonly", False)
        runtime.run(bundle, "--detach", *options, timeout=SECONDS).ok()
        return int(runtime.state(bundle.id)["pid"])

    return begin
