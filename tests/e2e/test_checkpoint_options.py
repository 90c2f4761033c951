"""The options of checkpoint and restore, each by what it does. All of it runs in the lab."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.checkpoint import COUNT, FILL, FILLED, SECONDS, Images, grows, numbers
from lib.runtime import Runtime, wait_for

# runc 1.1 refuses a container whose streams are files of the host, as they are in this suite.
pytestmark = [pytest.mark.lab("criu"), pytest.mark.only("ocirun")]
Start = Callable[..., int]


@contextmanager
def program(*argv: str | Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program beside the test, ended at the end."""
    null = subprocess.DEVNULL
    streams = {"stdin": null, "stdout": null, "stderr": null}
    with subprocess.Popen(list(map(str, argv)), **{**streams, **options}) as process:
        try:
            yield process
        finally:
            process.kill()


def content(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def disk(images: Images, name: str) -> int:
    """Bytes that the memory in the images takes on the disk: holes take none."""
    return sum(f.stat().st_blocks * 512 for f in images.path(name).glob("pages-*.img"))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# An option without which CRIU refuses a container, what the container does, what CRIU says.
NEEDED = {
    "--file-locks": ("/bin/probe --lock /lock >/ready", "file locks"),
    "--link-remap": ("exec 3>/a; ln /a /b; rm /a; echo >/ready; sleep 1000", "link-remap"),
    "--tcp-skip-in-flight": (
        # A listener that is stopped accepts nobody.
        "nc -l -p 4000 & sleep 1; kill -STOP $!; sleep 1000 | nc 127.0.0.1 4000 & sleep 1; "
        "echo >/ready; wait",
        "in-flight connection",
    ),
}


@pytest.mark.parametrize("option", NEEDED)
def test_needed(
    runtime: Runtime, bundle: Bundle, images: Images, start: Start, option: str
) -> None:
    """Without the option it is refused, and goes on; with it the restored one is as it was."""
    script, words = NEEDED[option]
    more = ("--tcp-established",) if "tcp" in option else ()
    bundle.sh(script)
    start(bundle)
    wait_for(lambda: content(bundle.rootfs / "ready"), "the container", SECONDS)
    refused = images.checkpoint(bundle.id, *more, name="refused")
    refused.failed(words)
    assert runtime.status(bundle.id) == "running"
    images.checkpoint(bundle.id, option, *more).ok()
    again = () if option == "--tcp-skip-in-flight" else (option,)
    images.restore(bundle, "--detach", *again, *more).ok()
    assert runtime.status(bundle.id) == "running"
    pid = runtime.state(bundle.id)["pid"]
    if option == "--file-locks":
        held = ["flock", "--nonblock", bundle.rootfs / "lock", "true"]
        assert subprocess.run(held, check=False).returncode == 1
    elif option == "--link-remap":
        assert os.readlink(f"/proc/{pid}/fd/3") == "/a (deleted)"
        assert os.stat(f"/proc/{pid}/fd/3").st_ino == (bundle.rootfs / "b").stat().st_ino
        assert sorted(path.name for path in bundle.rootfs.glob("link_remap*")) == []
    else:
        shown = runtime.call("exec", bundle.id, "netstat", "-ltn").ok().out
        assert ":4000" in shown


def test_an_unlinked_file_needs_no_option(
    runtime: Runtime, bundle: Bundle, images: Images, start: Start
) -> None:
    bundle.sh("exec 3<>/a; echo kept >&3; rm /a; echo >/ready; sleep 1000")
    start(bundle)
    wait_for((bundle.rootfs / "ready").exists, "the container", SECONDS)
    images.checkpoint(bundle.id).ok()
    images.restore(bundle, "--detach").ok()
    pid = runtime.state(bundle.id)["pid"]
    assert os.readlink(f"/proc/{pid}/fd/3").endswith("(deleted)")
    assert Path(f"/proc/{pid}/fd/3").read_text() == "kept\n"


def test_ext_unix_sk(
    runtime: Runtime, bundle: Bundle, images: Images, folder: Path, start: Start
) -> None:
    """A program that is connected to the host's log goes on with it.

    CRIU finds the other end in the container's network namespace alone, so that must be the
    host's; and it connects to the name that the other end has for itself.
    """
    (bundle.rootfs / str(folder)[1:]).mkdir(parents=True)
    (bundle.rootfs / str(folder / "log")[1:]).symlink_to("/dev/log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(folder / "log"))
        log.settimeout(SECONDS)
        bundle.mount("/dev/log", "bind", str(folder / "log"), "bind")
        bundle.drop_namespace("network").sh(f"({COUNT}) | logger -t counter")
        start(bundle)
        assert log.recv(1000).split()[-2:] == [b"counter:", b"1"]
        images.checkpoint(bundle.id, name="refused").failed("ext-unix-sk")
        images.checkpoint(bundle.id, "--ext-unix-sk").ok()
        log.setblocking(False)
        last = b""
        while True:
            try:
                last = log.recv(1000)
            except BlockingIOError:
                break
        images.restore(bundle, "--detach", "--ext-unix-sk").ok()
        log.settimeout(SECONDS)
        assert int(log.recv(1000).split()[-1]) == int(last.split()[-1]) + 1


def test_tcp_established_is_needed_by_restore(
    runtime: Runtime, bundle: Bundle, images: Images, start: Start
) -> None:
    bundle.sh(f"sleep 1000 | nc -l -p 4000 >/counted & sleep 1; ({COUNT}) | nc 127.0.0.1 4000")
    start(bundle)
    grows(bundle.rootfs / "counted")
    images.checkpoint(bundle.id, "--tcp-established").ok()
    images.restore(bundle, "--detach").failed("connected tcp socket in image")
    assert runtime.containers() == []
    images.restore(bundle, "--detach", "--tcp-established").ok()


def test_work_path(
    runtime: Runtime, bundle: Bundle, images: Images, folder: Path, start: Start
) -> None:
    """CRIU's logs go there, and not beside the images."""
    bundle.sleeper()
    start(bundle)
    images.checkpoint(bundle.id, "--work-path", str(folder / "work")).ok()
    images.restore(bundle, "--detach", "--work-path", folder / "work").ok()
    assert {"dump.log", "restore.log"} <= set(os.listdir(folder / "work"))
    assert not any(name.endswith(".log") for name in os.listdir(images.path()))


def test_shell_job(runtime: Runtime, bundle: Bundle, images: Images, start: Start) -> None:
    """Taken as with runc: a container's init leads a session, so that it changes nothing."""
    bundle.sh(f"({COUNT}) >/counted")
    start(bundle)
    grows(bundle.rootfs / "counted")
    images.checkpoint(bundle.id, "--shell-job").ok()
    images.restore(bundle, "--detach", "--shell-job").ok()
    grows(bundle.rootfs / "counted")
    pid = runtime.state(bundle.id)["pid"]
    assert os.getsid(pid) == pid


def test_page_server(runtime: Runtime, bundle: Bundle, images: Images, start: Start) -> None:
    """The memory goes to it, and nowhere else."""
    port = free_port()
    bundle.sh(f"{FILL}; ({COUNT}) >/counted")
    start(bundle)
    grows(bundle.rootfs / "counted")
    images.path("memory").mkdir()
    args = ("--images-dir", images.path("memory"), "--address", "127.0.0.1", "--port", str(port))
    with program("criu", "page-server", *args) as server:
        wait_for(lambda: listening(port), "the page server", SECONDS)
        images.checkpoint(bundle.id, "--page-server", f"127.0.0.1:{port}").ok()
        assert server.wait(SECONDS) == 0
    assert images.pages() == 0
    assert images.pages("memory") > FILLED
    images.restore(bundle, "--detach").failed()
    for file in images.path("memory").glob("page*.img"):
        file.rename(images.path() / file.name)
    images.restore(bundle, "--detach").ok()
    grows(bundle.rootfs / "counted")


def listening(port: int) -> bool:
    """Somebody listens there (it is not connected to: a page server serves one connection)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()
    return any(f":{port:04X} " in line and " 0A " in line for line in lines)


def test_page_server_that_is_not_there(
    runtime: Runtime, bundle: Bundle, images: Images, start: Start
) -> None:
    bundle.sleeper()
    start(bundle)
    images.checkpoint(bundle.id, "--page-server", f"127.0.0.1:{free_port()}").failed("connect")
    assert runtime.status(bundle.id) == "running"


def test_lazy_pages(
    runtime: Runtime, bundle: Bundle, images: Images, folder: Path, start: Start
) -> None:
    """The restored one runs before its memory has come; the first ends when all has gone."""
    port = free_port()
    bundle.sh(f"{FILL}; ({COUNT}) >/counted")
    start(bundle)
    counted = bundle.rootfs / "counted"
    grows(counted)
    reader, writer = os.pipe()
    args = ("checkpoint", "--image-path", images.path(), "--work-path", images.path())
    options = ("--lazy-pages", "--page-server", f"127.0.0.1:{port}", "--status-fd", str(writer))
    argv = runtime.argv(*args, *options, bundle.id)
    with program(*argv, pass_fds=[writer]) as first:
        os.close(writer)
        with os.fdopen(reader, "rb") as told:
            assert select([told], [], [], SECONDS)[0], "no word that pages can be had"
            assert told.read(1) == b"\0"
        assert images.pages() < FILLED
        last = numbers(counted)[-1]
        place = ("--images-dir", images.path(), "--work-dir", images.path())
        where = ("--page-server", "--address", "127.0.0.1", "--port", str(port))
        with program("criu", "lazy-pages", *place, *where):
            wait_for((images.path() / "lazy-pages.socket").exists, "the server", SECONDS)
            bundle.id += "-b"
            bundle.set("/linux/cgroupsPath", f"/ocirun-test/{bundle.id}").write()
            lazily = ("--detach", "--lazy-pages", "--work-path", images.path())
            images.restore(bundle, *lazily).ok()
            assert first.wait(SECONDS) == 0
    assert runtime.containers() == [bundle.id]
    assert grows(counted) > last


def test_lazy_pages_without_a_server(
    runtime: Runtime, bundle: Bundle, images: Images, start: Start
) -> None:
    """It fails at once, and waits for nobody."""
    bundle.sleeper()
    start(bundle)
    images.checkpoint(bundle.id).ok()
    begun = time.monotonic()
    images.restore(bundle, "--detach", "--lazy-pages").failed("lazy-pages")
    assert time.monotonic() - begun < SECONDS / 2
    assert runtime.containers() == []


def test_auto_dedup(runtime: Runtime, bundle: Bundle, images: Images, start: Start) -> None:
    """What has changed since is taken out of the parent; what is restored out of the images."""
    again = f"again() {{ {FILL.replace(' x)', ' y)')}; echo >/again; }}; trap again USR1"
    bundle.sh(f"({COUNT}) >/counted & {again}; {FILL}; echo >/filled; while :; do wait; done")
    start(bundle)
    wait_for((bundle.rootfs / "filled").exists, "the memory", SECONDS)
    images.checkpoint(bundle.id, "--pre-dump", name="before").ok()
    assert disk(images, "before") > FILLED
    runtime.kill(bundle.id, "USR1").ok()
    wait_for((bundle.rootfs / "again").exists, "other memory", SECONDS)
    images.checkpoint(bundle.id, "--parent-path", "../before", "--auto-dedup").ok()
    assert disk(images, "one") > FILLED
    assert disk(images, "before") < FILLED / 2
    images.restore(bundle, "--detach", "--auto-dedup").ok()
    assert disk(images, "one") < FILLED / 2
    grows(bundle.rootfs / "counted")


def test_empty_ns(runtime: Runtime, bundle: Bundle, images: Images, start: Start) -> None:
    """There is a network namespace, and nothing is set up in it: that is left to a hook."""
    bundle.sh("ip link set lo up; ip address add 10.9.8.7/32 dev lo; echo >/ready; sleep 1000")
    for kind in ("bounding", "effective", "permitted", "inheritable"):
        bundle.add(f"/process/capabilities/{kind}", "CAP_NET_ADMIN")
    start(bundle)
    wait_for((bundle.rootfs / "ready").exists, "the container", SECONDS)
    images.checkpoint(bundle.id, "--leave-running", name="full").ok()
    images.checkpoint(bundle.id, "--empty-ns", "network", name="empty").ok()
    images.restore(bundle, "--detach", name="full").ok()
    assert "10.9.8.7" in runtime.call("exec", bundle.id, "ip", "address").ok().out
    runtime.delete(bundle.id, "--force").ok()
    images.restore(bundle, "--detach", "--empty-ns", "network", name="empty").ok()
    pid = runtime.state(bundle.id)["pid"]
    assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    assert "10.9.8.7" not in runtime.call("exec", bundle.id, "ip", "address").ok().out


@pytest.mark.parametrize("mode", ["soft", "full", "ignore"])
def test_manage_cgroups_mode(
    runtime: Runtime, bundle: Bundle, images: Images, start: Start, mode: str
) -> None:
    """Whatever CRIU notes of cgroups, the restored container is in its own, with its limits."""
    bundle.set("/linux/resources/pids", {"limit": 77}).sleeper()
    start(bundle)
    images.checkpoint(bundle.id, "--manage-cgroups-mode", mode).ok()
    images.restore(bundle, "--detach", "--manage-cgroups-mode", mode).ok()
    pid = runtime.state(bundle.id)["pid"]
    own = Path(f"/proc/{pid}/cgroup").read_text().split("::")[1].strip()
    assert own == f"/ocirun-test/{bundle.id}"
    assert Path(f"/sys/fs/cgroup{own}/pids.max").read_text() == "77\n"


def test_manage_cgroups_mode_strict(
    runtime: Runtime, bundle: Bundle, images: Images, start: Start
) -> None:
    """CRIU wants to make the cgroups itself then; but they are the runtime's, and there."""
    bundle.sleeper()
    start(bundle)
    images.checkpoint(bundle.id, "--manage-cgroups-mode", "strict").ok()
    images.restore(bundle, "--detach", "--manage-cgroups-mode", "strict").failed("existing cgroups")
    assert runtime.containers() == []


@pytest.mark.parametrize("option", ["", "--no-subreaper"])
def test_no_subreaper(
    runtime: Runtime, bundle: Bundle, images: Images, folder: Path, start: Start, option: str
) -> None:
    """Who adopts the orphans of a restore in the foreground, of a hook for instance."""
    bundle.sleeper()
    start(bundle)
    images.checkpoint(bundle.id).ok()
    orphan = f"sleep 1000 <&- >&- 2>&- & echo $! >{folder}/orphan"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", orphan]}
    bundle.set("/hooks/prestart", [hook]).write()
    options = [option] if option else []
    args = ("restore", "--image-path", images.path(), "--bundle", bundle.path, *options)
    said = folder / "said"
    argv = runtime.argv(*args, "--pid-file", folder / "pid", bundle.id)
    with said.open("wb") as stderr, program(*argv, stdout=stderr, stderr=stderr) as process:
        wait_for(lambda: (folder / "pid").exists() or process.poll() is not None, "it", SECONDS)
        assert process.poll() is None, said.read_text()
        pid = int((folder / "orphan").read_text())
        status = Path(f"/proc/{pid}/status").read_text()
        assert (f"PPid:\t{process.pid}\n" in status) == (not option)
        os.kill(pid, 9)
        runtime.kill(bundle.id, "TERM").ok()
        assert process.wait(SECONDS) == 0


def test_no_pivot(runtime: Runtime, bundle: Bundle, images: Images, start: Start) -> None:
    bundle.sleeper()
    start(bundle)
    images.checkpoint(bundle.id).ok()
    images.restore(bundle, "--detach", "--no-pivot").ok()
    assert runtime.status(bundle.id) == "running"


def test_lsm_profile(runtime: Runtime, bundle: Bundle, images: Images, start: Start) -> None:
    """It takes the place of a profile: a container that has had none is given none."""
    bundle.sleeper()
    start(bundle)
    images.checkpoint(bundle.id).ok()
    images.restore(bundle, "--detach", "--lsm-profile", "apparmor:no-such-profile").ok()
    assert runtime.status(bundle.id) == "running"


def test_lsm_mount_context(runtime: Runtime, bundle: Bundle, images: Images, start: Start) -> None:
    """Without SELinux no mount has a context that could be replaced."""
    bundle.sleeper()
    start(bundle)
    images.checkpoint(bundle.id).ok()
    context = "system_u:object_r:container_file_t:s0"
    images.restore(bundle, "--detach", "--lsm-mount-context", context).ok()
    assert runtime.status(bundle.id) == "running"
