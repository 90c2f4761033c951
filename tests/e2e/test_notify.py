"""NOTIFY_SOCKET: sd_notify(3) of a container's process reaches the socket of who started the runtime."""

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lib import mountinfo
from lib.bundle import Bundle
from lib.notifysocket import NotifySocket
from lib.runtime import Runtime, wait_for
from lib.terminal import Terminal

INSIDE = "/run/notify/notify.sock"


@pytest.fixture
def host(folder: Path) -> Iterator[NotifySocket]:
    with NotifySocket(folder / "host.sock", dict(os.environ)) as made:
        yield made


def says(bundle: Bundle, *texts: str, then: str = "exec sleep 1000") -> Bundle:
    """A container that says this to its socket, and goes on."""
    words = " ".join(f"'{text}'" for text in texts)
    return bundle.sh(f"/bin/probe --notify {words} || exit 77; {then}")


# Which process does it


@pytest.mark.parametrize("how", ["run-detached", "create-start"])
def test_detached(runtime: Runtime, bundle: Bundle, host: NotifySocket, how: str) -> None:
    """The runtime stays until the container is ready, and says which process it is."""
    says(bundle, "READY=1")
    with host.reading():
        if how == "run-detached":
            runtime.run(bundle, "--detach", env=host.env).ok()
        else:
            runtime.create(bundle, env=host.env).ok()
            assert host.seen == []
            runtime.call("start", bundle.id, env=host.env).ok()
    expected = (
        ["READY=1"]
        if runtime.kind == "crun"
        else ["READY=1", f"MAINPID={runtime.state(bundle.id)['pid']}"]
    )
    assert host.rest() == expected
    if runtime.kind == "ocirun":
        assert host.barriers == 1
    assert runtime.status(bundle.id) == "running"


@pytest.mark.parametrize("how", ["run", "start"])
def test_it_waits(runtime: Runtime, bundle: Bundle, host: NotifySocket, how: str) -> None:
    bundle.set("/root/readonly", False).sh(
        "while ! [ -e /opt/go ]; do sleep 0.02; done; probe --notify READY=1; exec sleep 1000"
    )
    if how == "start":
        runtime.create(bundle, env=host.env).ok()
        process = runtime.popen("start", bundle.id, env=host.env)
    else:
        process = runtime.popen("run", "-d", "--bundle", bundle.write(), bundle.id, env=host.env)
        wait_for(lambda: runtime.call("state", bundle.id).status == 0, "the container")
    runtime.wait_status(bundle.id, "running")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    assert host.rest() == []
    (bundle.rootfs / "opt/go").touch()
    host.wait_for("READY=1")
    while process.poll() is None:
        host.read(0.05)
    assert process.returncode == 0


@pytest.mark.only("ocirun", "crun")  # runc waits until somebody has reaped it as well
@pytest.mark.parametrize("how", ["run", "start"])
def test_container_that_ends_without_a_word(
    runtime: Runtime, bundle: Bundle, host: NotifySocket, how: str
) -> None:
    bundle.sh("sleep 0.2")
    if how == "start":
        runtime.create(bundle, env=host.env).ok()
        runtime.call("start", bundle.id, env=host.env).ok()
    else:
        runtime.run(bundle, "--detach", env=host.env).ok()
    assert host.rest() == []


@pytest.mark.only("ocirun")
def test_others_can_end_it_while_start_waits(
    runtime: Runtime, bundle: Bundle, host: NotifySocket
) -> None:
    runtime.create(bundle.sleeper(), env=host.env).ok()
    process = runtime.popen("start", bundle.id, env=host.env)
    runtime.wait_status(bundle.id, "running")
    runtime.delete(bundle.id, "--force").ok()
    assert process.wait(10) == 0


def test_in_the_foreground(runtime: Runtime, bundle: Bundle, host: NotifySocket) -> None:
    says(bundle, "READY=1", then="exit 5")
    process = runtime.popen("run", "--bundle", bundle.write(), bundle.id, env=host.env)
    while process.poll() is None:
        host.read(0.05)
    assert process.returncode == 5
    expected = ["READY=1"]
    if runtime.kind != "crun":
        expected.append(f"MAINPID={process.pid}")  # the service is the runtime
    assert host.rest() == expected


@pytest.mark.only("ocirun")
def test_all_its_life_in_the_foreground(
    runtime: Runtime, bundle: Bundle, host: NotifySocket
) -> None:
    says(
        bundle,
        "STATUS=begun",
        "READY=1",
        "STATUS=at work",
        "WATCHDOG=1",
        "STOPPING=1",
        then="exit 0",
    )
    done = runtime.run(bundle, env=host.env).ok()
    assert done.err == ""
    mine = [line for line in host.rest() if not line.startswith("MAINPID=")]
    assert mine == ["STATUS=begun", "READY=1", "STATUS=at work", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.only("ocirun")
def test_with_a_terminal(runtime: Runtime, bundle: Bundle, host: NotifySocket) -> None:
    """Input and output go on all the while."""
    bundle.set("/process/terminal", True)
    bundle.sh("echo first; probe --notify READY=1; read x; echo $x; exit 3")
    with Terminal() as terminal:
        argv = runtime.argv("run", "--bundle", bundle.write(), bundle.id)
        words = f"NOTIFY_SOCKET={host.env['NOTIFY_SOCKET']}"
        terminal.spawn(["env", words, *argv])
        terminal.read_until(b"first")
        host.wait_for("READY=1")
        terminal.write(b"spam\n")
        assert terminal.wait() == 3
        assert b"spam\r\nspam\r\n" in terminal.seen


# What the container gets


def test_what_the_container_gets(runtime: Runtime, bundle: Bundle, host: NotifySocket) -> None:
    if runtime.kind == "crun":
        pytest.skip("crun puts it where the host has it")
    bundle.sh("probe --notify READY=1; exec probe")
    report = runtime.probe(bundle, env=host.env)
    assert f"NOTIFY_SOCKET={INSIDE}" in report["env"]
    mount = mountinfo.find(report["mountinfo"], "/run/notify")
    assert {"ro", "nosuid", "nodev", "noexec"} <= mount.flags


@pytest.mark.only("ocirun")
def test_permissions(runtime: Runtime, bundle: Bundle, host: NotifySocket) -> None:
    """Every user of the container may speak; none may change the folder. Whatever the umask."""
    bundle.set("/process/user", {"uid": 1000, "gid": 1000})
    bundle.sh(f"stat -c %a /run/notify {INSIDE}; touch /run/notify/x; probe --notify READY=1")
    before = os.umask(0o077)
    try:
        done = runtime.run(bundle, env=host.env)
    finally:
        os.umask(before)
    assert done.out.split() == ["755", "777"]
    assert "READY=1" in host.rest()


@pytest.mark.parametrize("what", ["userns", "joined-pid", "tmpfs"])
@pytest.mark.only("ocirun")
def test_containers_of_other_kinds(
    runtime: Runtime, bundle: Bundle, host: NotifySocket, what: str
) -> None:
    if what == "userns":
        (bundle.rootfs / "run/notify").mkdir(parents=True)  # nothing else of it is the user's
        bundle.user_namespace()
    elif what == "tmpfs":
        bundle.mount("/run", "tmpfs", "tmpfs")
    else:
        bundle.drop_namespace("pid")
    says(bundle, "READY=1", then="true")
    runtime.run(bundle, env=host.env).ok()
    assert "READY=1" in host.rest()


@pytest.mark.only("ocirun")
def test_of_an_ordinary_user(runtime: Runtime, box: Bundle, folder: Path) -> None:
    folder.chmod(0o777)
    with NotifySocket(folder / "users.sock", {}) as host:
        (folder / "users.sock").chmod(0o777)
        runtime.prefix = (*runtime.prefix, f"NOTIFY_SOCKET={host.env['NOTIFY_SOCKET']}")
        says(box, "READY=1", then="true")
        runtime.run(box).ok()
        assert "READY=1" in host.rest()


@pytest.mark.only("ocirun")
def test_without_the_variable(runtime: Runtime, bundle: Bundle) -> None:
    for env in ({}, {"NOTIFY_SOCKET": ""}):
        report = runtime.probe(bundle, env={**os.environ, **env})
        assert not any("NOTIFY_SOCKET" in word for word in report["env"])
        assert "/run/notify" not in report["mountinfo"]


@pytest.mark.only("ocirun")
def test_start_alone_has_it(runtime: Runtime, bundle: Bundle, host: NotifySocket) -> None:
    """Then the container has no socket, and nobody waits for it."""
    runtime.create(bundle.sleeper()).ok()
    runtime.call("start", bundle.id, env=host.env).ok()
    assert host.rest() == []


@pytest.mark.only("ocirun")
def test_create_alone_has_it(runtime: Runtime, bundle: Bundle, host: NotifySocket) -> None:
    runtime.create(bundle.sleeper(), env=host.env).ok()
    runtime.call("start", bundle.id).ok()
    assert host.rest() == []


# A hostile container, and a caller's socket of any kind


@pytest.mark.only("ocirun")
def test_what_is_not_passed_on(runtime: Runtime, bundle: Bundle, host: NotifySocket) -> None:
    """A container must not choose systemd's main process, nor hand it descriptors."""
    bad = ("MAINPID=1", "FDSTORE=1", "NOTIFYACCESS=all", "BARRIER=1", "BUSERROR=x", "junk", "")
    says(bundle, *filter(None, bad), "MAINPID=1\nREADY=1\nUSER=x\nSTATUS=a", then="true")
    process = runtime.popen("run", "--bundle", bundle.write(), bundle.id, env=host.env)
    assert process.wait(20) == 0
    assert host.rest() == ["READY=1", "STATUS=a", f"MAINPID={process.pid}"]
    assert host.barriers == 0


@pytest.mark.only("ocirun")
def test_very_many_messages(runtime: Runtime, bundle: Bundle, host: NotifySocket) -> None:
    bundle.sh(
        "i=0; while [ $i -lt 300 ]; do probe --notify STATUS=$i; i=$((i+1)); done; probe --notify READY=1"
    )
    process = runtime.popen("run", "--bundle", bundle.write(), bundle.id, env=host.env)
    host.wait_for("READY=1", 60)
    while process.poll() is None:
        host.read(0.05)
    assert host.seen[:300] == [f"STATUS={n}" for n in range(300)]


@pytest.mark.only("ocirun")
def test_abstract_socket(runtime: Runtime, bundle: Bundle) -> None:
    with NotifySocket(f"@{bundle.id}", dict(os.environ)) as host:
        runtime.run(says(bundle, "READY=1", then="true"), env=host.env).ok()
        assert "READY=1" in host.rest()


@pytest.mark.only("ocirun")
def test_long_path(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    """A path as a socket's address has at most 107 bytes."""
    deep = folder / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    here = os.open(deep, os.O_PATH)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(f"/proc/self/fd/{here}/sock")
    os.close(here)
    runtime.root = folder / ("s" * 100)
    env = {**os.environ, "NOTIFY_SOCKET": str(deep / "sock")}
    runtime.run(says(bundle, "READY=1", then="true"), env=env).ok()
    assert sock.recv(100) == b"READY=1"
    sock.close()


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("value", ["/no/such/socket", "relative", "@nobody"])
def test_nobody_listens(runtime: Runtime, bundle: Bundle, value: str) -> None:
    """It is said, but it is no failure of the container."""
    env = {**os.environ, "NOTIFY_SOCKET": value}
    done = runtime.run(says(bundle, "READY=1", then="exit 4"), env=env)
    assert done.status == 4
    assert f"NOTIFY_SOCKET {value}" in done.err


@pytest.mark.only("ocirun")
def test_failed_create_leaves_nothing(runtime: Runtime, bundle: Bundle, host: NotifySocket) -> None:
    runtime.run(bundle.args("/no/such/command"), env=host.env).failed("no such file")
    assert runtime.containers() == []
    assert host.rest() == []


@pytest.mark.only("ocirun")
def test_state_folder(runtime: Runtime, bundle: Bundle, host: NotifySocket) -> None:
    """The folder is beside the record, and goes with it, whatever is in it."""
    runtime.create(bundle.sleeper(), env=host.env).ok()
    notify = runtime.root / bundle.id / "notify"
    assert stat.S_IMODE(notify.stat().st_mode) == 0o755
    (notify / "other").mkdir()
    (notify / "link").symlink_to("/etc")
    runtime.delete(bundle.id, "--force").ok()
    assert runtime.containers() == []
    assert os.path.isdir("/etc")


@pytest.mark.only("ocirun")
def test_explained(runtime: Runtime, bundle: Bundle, host: NotifySocket) -> None:
    done = runtime.call("explain", bundle.write(), env=host.env).ok()
    assert "/notify on /run/notify (ro,nosuid,nodev,noexec)" in done.out.replace("\n", " ")
    assert "/run/notify" not in runtime.call("explain", bundle.write()).ok().out


@pytest.mark.only("ocirun")
def test_streams_are_not_held(runtime: Runtime, bundle: Bundle, host: NotifySocket) -> None:
    """After a detached run nobody of the runtime's has the caller's pipe."""
    says(bundle, "READY=1", then="exec sleep 1000 > /dev/null 2>&1 < /dev/null")
    argv = runtime.argv("run", "--detach", "--bundle", bundle.write(), bundle.id)
    with host.reading():
        done = subprocess.run(argv, capture_output=True, env=host.env, timeout=20)
    assert done.returncode == 0
    assert "READY=1" in host.rest()
