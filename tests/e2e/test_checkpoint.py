"""checkpoint and restore: what CRIU writes goes on elsewhere. Those that need it run in the lab."""

import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from lib.bundle import Bundle
from lib.checkpoint import COUNT, FILL, FILLED, SECONDS, Images, grows, is_gone, numbers
from lib.mountinfo import parse
from lib.runtime import Runtime, wait_for
from lib.terminal import ConsoleSocket

criu = pytest.mark.lab("criu")


@criu
def test_processes_a_pipe_and_an_open_file_go_on(
    runtime: Runtime, bundle: Bundle, images: Images, start: Callable[..., int]
) -> None:
    bundle.sh(f"exec 3>>/counted; ({COUNT}) | while read n; do echo $n >&3; done")
    pid = start(bundle)
    counted = bundle.rootfs / "counted"
    grows(counted)
    images.checkpoint(bundle.id).ok()
    assert runtime.containers() == []
    assert is_gone(pid)
    last = numbers(counted)[-1]
    images.restore(bundle, "--detach").ok()
    assert runtime.status(bundle.id) == "running"
    assert grows(counted) > last


@criu
def test_tcp_connection(
    runtime: Runtime, bundle: Bundle, images: Images, start: Callable[..., int]
) -> None:
    bundle.sh(f"sleep 1000 | nc -l -p 4000 >/counted & sleep 1; ({COUNT}) | nc 127.0.0.1 4000")
    start(bundle)
    counted = bundle.rootfs / "counted"
    grows(counted)
    if runtime.kind == "ocirun":
        refused = images.checkpoint(bundle.id, name="refused")
        refused.failed("criu cannot checkpoint", "tcp-established", "dump.log", "| (")
    else:
        images.checkpoint(bundle.id, name="refused").failed()
    assert runtime.status(bundle.id) == "running"
    images.checkpoint(bundle.id, "--tcp-established").ok()
    last = numbers(counted)[-1]
    images.restore(bundle, "--detach", "--tcp-established").ok()
    assert grows(counted) > last


@criu
def test_terminal(
    runtime: Runtime, bundle: Bundle, images: Images, folder: Path, start: Callable[..., int]
) -> None:
    bundle.set("/process/terminal", True).sh("n=0; while read x; do n=$((n+1)); echo [$n:$x]; done")
    with ConsoleSocket(folder / "first") as socket:
        start(bundle, "--console-socket", socket.path)
        with socket.receive() as terminal:
            terminal.write(b"a\n")
            terminal.read_until(b"[1:a]")
            images.checkpoint(bundle.id).ok()
    with ConsoleSocket(folder / "second") as socket:
        images.restore(bundle, "--detach", "--console-socket", socket.path).ok()
        with socket.receive() as terminal:
            terminal.write(b"b\n")
            terminal.read_until(b"[2:b]")
            runtime.kill(bundle.id).ok()
            runtime.wait_status(bundle.id, "stopped")


@criu
def test_leave_running(
    runtime: Runtime, bundle: Bundle, images: Images, start: Callable[..., int]
) -> None:
    bundle.sh(f"({COUNT}) >/counted")
    pid = start(bundle)
    grows(bundle.rootfs / "counted")
    images.checkpoint(bundle.id, "--leave-running").ok()
    assert runtime.state(bundle.id)["pid"] == pid
    assert runtime.status(bundle.id) == "running"
    grows(bundle.rootfs / "counted")
    assert images.path().joinpath("core-1.img").exists()


@criu
def test_pre_dump_and_parent(
    runtime: Runtime, bundle: Bundle, images: Images, start: Callable[..., int]
) -> None:
    """Only what has changed since is written: not the 3 MB of init, which only waits.

    How much the counter's pages are is chance: it may, or may not, be in the middle of a fork.
    """
    bundle.sh(f"({COUNT}) >/counted & {FILL}; echo >/filled; wait")
    start(bundle)
    counted = bundle.rootfs / "counted"
    wait_for((bundle.rootfs / "filled").exists, "the memory", SECONDS)
    grows(counted)
    images.checkpoint(bundle.id, "--pre-dump", name="before").ok()
    assert runtime.status(bundle.id) == "running"
    assert not images.path("before").joinpath("core-1.img").exists()
    grows(counted)
    images.checkpoint(bundle.id, "--parent-path", "../before").ok()
    assert os.readlink(images.path() / "parent") == "../before"
    assert images.pages("before") > FILLED
    assert images.pages() < FILLED / 2
    images.restore(bundle, "--detach").ok()
    grows(counted)


@criu
def test_restore_in_the_foreground(
    runtime: Runtime, bundle: Bundle, images: Images, folder: Path, start: Callable[..., int]
) -> None:
    bundle.sh("trap 'echo bye; exit 7' TERM; echo up >/up; while :; do sleep 0.1; done")
    start(bundle)
    wait_for((bundle.rootfs / "up").exists, "the container")
    images.checkpoint(bundle.id).ok()
    pid_file, out = folder / "pid", folder / "out"
    args = ("restore", "--image-path", images.path(), "--bundle", bundle.path)
    with out.open("wb") as stdout:
        options = ("--pid-file", pid_file, bundle.id)
        with runtime.popen(*args, *options, stdout=stdout, stderr=stdout) as process:
            wait_for(pid_file.exists, "the pid file", SECONDS)
            pid = int(pid_file.read_text())
            assert runtime.state(bundle.id)["pid"] == pid
            assert f"PPid:\t{process.pid}\n" in Path(f"/proc/{pid}/status").read_text()
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 7
    assert out.read_text() == "bye\n"
    assert runtime.containers() == []


@criu
def test_what_hides_and_what_is_bound(
    runtime: Runtime, bundle: Bundle, images: Images, folder: Path, start: Callable[..., int]
) -> None:
    """Mounts from outside, masks and read-only paths are as they were; the source may move."""
    for name in ("shared", "moved"):
        (folder / name / "below").mkdir(parents=True)
        (folder / name / "file").write_text(name)
    bundle.mount("/mnt/link/there", "bind", str(folder / "shared"), "rbind", "ro")
    bundle.rootfs.joinpath("mnt").mkdir(exist_ok=True)
    bundle.rootfs.joinpath("mnt/link").symlink_to("/srv")
    bundle.mount("/one", "bind", str(folder / "shared/file"), "bind", "ro")
    bundle.sleeper()
    pid = start(bundle)

    def seen(pid: int) -> dict[str, tuple[str, bool]]:
        lines = Path(f"/proc/{pid}/mountinfo").read_text()
        return {m.point: (m.type, "ro" in m.flags) for m in parse(lines)}

    before = seen(pid)
    assert before["/srv/there"][1]
    assert before["/proc/sys"] == ("proc", True)
    assert before["/sys/fs/cgroup"][1]
    images.checkpoint(bundle.id).ok()
    bundle.config["mounts"][-2]["source"] = str(folder / "moved")
    bundle.write()
    images.restore(bundle, "--detach").ok()
    pid = runtime.state(bundle.id)["pid"]
    assert seen(pid) == before
    root = Path(f"/proc/{pid}/root")
    assert (root / "srv/there/file").read_text() == "moved"
    assert (root / "one").read_text() == "shared"
    assert stat.S_ISCHR((root / "proc/kcore").stat().st_mode)
    status = Path(f"/proc/{pid}/status").read_text()
    assert "CapEff:\t0000000020000420" in status


@criu
@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges(
    runtime: Runtime, bundle: Bundle, images: Images, start: Callable[..., int], wanted: bool
) -> None:
    """No process may come back with more rights than it has had."""
    bundle.set("/process/noNewPrivileges", wanted).sleeper()
    start(bundle)
    images.checkpoint(bundle.id).ok()
    images.restore(bundle, "--detach").ok()
    group = Path(f"/sys/fs/cgroup/ocirun-test/{bundle.id}/cgroup.procs").read_text().split()
    assert len(group) == 2
    for pid in group:
        assert f"NoNewPrivs:\t{wanted:d}\n" in Path(f"/proc/{pid}/status").read_text()


@criu
def test_cgroups_and_another_id(
    runtime: Runtime, bundle: Bundle, images: Images, start: Callable[..., int]
) -> None:
    """The restored container has the cgroups and limits of its new config.json."""
    bundle.set("/linux/resources/pids", {"limit": 77}).sleeper()
    start(bundle)
    images.checkpoint(bundle.id).ok()
    bundle.id += "-b"
    bundle.set("/linux/cgroupsPath", f"/ocirun-test/{bundle.id}")
    bundle.set("/linux/resources/pids", {"limit": 88}).write()
    images.restore(bundle, "--detach").ok()
    pid = runtime.state(bundle.id)["pid"]
    own = Path(f"/proc/{pid}/cgroup").read_text().split("::")[1].strip()
    assert own == f"/ocirun-test/{bundle.id}"
    assert Path(f"/sys/fs/cgroup{own}/pids.max").read_text() == "88\n"
    runtime.delete(bundle.id, "--force").ok()
    assert not Path(f"/sys/fs/cgroup{own}").exists()


@criu
@pytest.mark.spec("/linux/namespaces/*/path")
def test_joined_network_namespace(
    runtime: Runtime, bundle: Bundle, images: Images, start: Callable[..., int]
) -> None:
    with subprocess.Popen(["unshare", "--net", "sleep", "1000"]) as holder:
        try:
            path = f"/proc/{holder.pid}/ns/net"
            wait_for(lambda: os.readlink(path) != os.readlink("/proc/self/ns/net"), "unshare")
            bundle.namespace("network", path).sleeper()
            start(bundle)
            images.checkpoint(bundle.id).ok()
            images.restore(bundle, "--detach").ok()
            pid = runtime.state(bundle.id)["pid"]
            assert os.readlink(f"/proc/{pid}/ns/net") == os.readlink(path)
            runtime.delete(bundle.id, "--force").ok()
        finally:
            holder.kill()


@criu
def test_restore_without_an_image(
    runtime: Runtime, bundle: Bundle, images: Images, start: Callable[..., int]
) -> None:
    """A restore that fails shows CRIU's log and leaves nothing."""
    bundle.sleeper()
    start(bundle)
    images.checkpoint(bundle.id).ok()
    (images.path() / "core-1.img").unlink()
    images.restore(bundle, "--detach").failed("core-1.img" if runtime.kind == "ocirun" else "criu")
    assert runtime.containers() == []


@criu
@pytest.mark.only("ocirun")
def test_mounts_that_were_added(
    runtime: Runtime, bundle: Bundle, images: Images, folder: Path, start: Callable[..., int]
) -> None:
    """Of `mounts add`: config.json does not know them, but the checkpoint does."""
    (folder / "shared").mkdir()
    (folder / "shared/file").write_text("of the host")
    shared = {"destination": "/added", "type": "bind", "source": str(folder / "shared")}
    scratch = {"destination": "/scratch", "type": "tmpfs", "source": "none"}
    (folder / "mounts").write_text(json.dumps([{**shared, "options": ["bind"]}, scratch]))
    bundle.sleeper()
    start(bundle)
    runtime.call("mounts", "add", bundle.id, folder / "mounts").ok()
    runtime.call("exec", bundle.id, "sh", "-c", "echo kept >/scratch/file").ok()
    for name in ("one", "two"):
        images.checkpoint(bundle.id, name=name).ok()
        images.restore(bundle, "--detach", name=name).ok()
        root = Path(f"/proc/{runtime.state(bundle.id)['pid']}/root")
        assert (root / "added/file").read_text() == "of the host"
        assert (root / "scratch/file").read_text() == "kept\n"
    runtime.call("mounts", "remove", bundle.id, folder / "mounts").ok()
    assert not (root / "scratch/file").exists()


@criu
@pytest.mark.only("ocirun")
def test_a_paused_container(
    runtime: Runtime, bundle: Bundle, images: Images, start: Callable[..., int]
) -> None:
    bundle.sleeper()
    start(bundle)
    runtime.call("pause", bundle.id).ok()
    images.checkpoint(bundle.id, "--leave-running").ok()
    assert runtime.status(bundle.id) == "paused"
    runtime.call("resume", bundle.id).ok()


# What follows needs no CRIU.


@pytest.mark.only("ocirun")
def test_no_criu(bundle: Bundle, images: Images, start: Callable[..., int]) -> None:
    bundle.sleeper()
    start(bundle)
    args = ("checkpoint", "--image-path", images.path(), bundle.id)
    where = {**os.environ, "PATH": "/nonexistent"}
    hidden = (
        shutil.which("unshare") or "",
        "--mount",
        "/bin/sh",
        "-c",
        '/bin/mount --bind /dev/null "$0"; exec "$@"',
    )
    for place in ("/usr/sbin/criu", "/usr/local/sbin/criu"):
        if Path(place).exists():
            images.runtime.call(*args, prefix=(*hidden, place), env=where).failed(
                "no criu in $PATH"
            )
            return
    images.runtime.call(*args, env=where).failed("no criu in $PATH")


@pytest.mark.only("ocirun")
def test_criu_that_dies(
    runtime: Runtime, bundle: Bundle, images: Images, folder: Path, start: Callable[..., int]
) -> None:
    """Its end and the end of its log are told; the container runs on."""
    stub = folder / "bin/criu"
    stub.parent.mkdir()
    log = images.path() / "dump.log"
    stub.write_text(f"#!/bin/sh\necho '(00.1) Error (criu/x.c:1): the reason' >{log}\nexit 1\n")
    stub.chmod(0o755)
    bundle.sleeper()
    start(bundle)
    args = ("checkpoint", "--image-path", images.path(), bundle.id)
    path = {**os.environ, "PATH": f"{stub.parent}:{os.environ['PATH']}"}
    runtime.call(*args, env=path).failed("cannot checkpoint", "the reason", str(log), "| (00.1)")
    assert runtime.status(bundle.id) == "running"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--parent-path", "/abs"), "must be relative"),
        (("--parent-path", "../none"), "no such file or directory"),
        (("--page-server", "here"), "page-server|port"),
        (("--empty-ns", "pid"), "network|namespace"),
        (("--manage-cgroups-mode", "wild"), "mode|choice"),
    ],
)
def test_wrong_options(
    runtime: Runtime,
    bundle: Bundle,
    images: Images,
    start: Callable[..., int],
    options: tuple[str, ...],
    words: str,
) -> None:
    bundle.sleeper()
    start(bundle)
    images.checkpoint(bundle.id, *options).failed(words)
    assert runtime.status(bundle.id) == "running"


def test_wrong_status(runtime: Runtime, bundle: Bundle, images: Images) -> None:
    runtime.create(bundle.sleeper()).ok()
    images.checkpoint(bundle.id).failed("created")
    runtime.kill(bundle.id).ok()
    runtime.wait_status(bundle.id, "stopped")
    images.checkpoint(bundle.id).failed("stopped")


def test_restore_into_a_container_that_is_there(
    runtime: Runtime, bundle: Bundle, images: Images
) -> None:
    runtime.create(bundle.sleeper()).ok()
    images.path().mkdir()
    images.restore(bundle, "--detach").failed("exists")
    assert runtime.status(bundle.id) == "created"


def test_restore_from_a_folder_that_is_missing(
    runtime: Runtime, bundle: Bundle, images: Images
) -> None:
    bundle.sleeper().write()
    images.restore(bundle, "--detach", name="missing").failed("no such file or directory")
    assert runtime.containers() == []
