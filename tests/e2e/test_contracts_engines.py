"""What single engines rely on: conmon, Podman, Buildah, containerd, Docker, CRI-O.

Their own command lines, letter by letter. What all of them rely on is in test_contracts.py.
"""

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import pytest
from lib import leaks
from lib.bundle import Bundle
from lib.runtime import Result, Runtime, wait_for
from lib.terminal import ConsoleSocket


@pytest.fixture
def running(runtime: Runtime, bundle: Bundle) -> Bundle:
    """A container that waits for a signal."""
    runtime.call("run", "--detach", "--bundle", bundle.sleeper().write(), bundle.id).ok()
    return bundle


@pytest.fixture
def console(folder: Path) -> Iterator[ConsoleSocket]:
    with ConsoleSocket(folder / "console") as server:
        yield server


def parent(pid: int) -> int:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[1])


def process_file(folder: Path, bundle: Bundle, *args: str, **changes: Any) -> Path:
    """A process.json as engines write it: the container's own process with other arguments."""
    path = folder / "process.json"
    path.write_text(json.dumps({**bundle.config["process"], "args": args, **changes}))
    return path


# conmon


@pytest.mark.contract(
    "`create --bundle B --pid-file P [--no-pivot] [--no-new-keyring] [--preserve-fds N]"
    " [--console-socket S] ID`",
    "The container's init process becomes conmon's child by reparenting (conmon is a sub-reaper):"
    " it must be a descendant of the `create` process, and `create` must have exited.",
    "The pid file holds digits only, no newline.",
)
@pytest.mark.parametrize("terminal", [False, True])
def test_create_as_conmon_calls_it(
    runtime: Runtime, bundle: Bundle, folder: Path, console: ConsoleSocket, terminal: bool
) -> None:
    pid_file = folder / "pid"
    flags: tuple[str | Path, ...] = ("--pid-file", pid_file, "--no-pivot", "--no-new-keyring")
    flags = ("--bundle", bundle.sleeper().set("/process/terminal", terminal).write(), *flags)
    flags += ("--preserve-fds", "0", *(("--console-socket", console.path) if terminal else ()))
    runtime.call("create", *flags, bundle.id).ok()
    assert pid_file.read_bytes().isdigit()
    assert parent(int(pid_file.read_text())) == os.getpid()
    with console.receive() if terminal else nullcontext() as master:
        assert master is None or os.isatty(master.master)
        runtime.start(bundle.id).ok()
        runtime.call("kill", bundle.id, "15").ok()
        runtime.wait_status(bundle.id, "stopped")
    runtime.call("delete", bundle.id).ok()


@pytest.mark.contract(
    "`exec --pid-file P --process FILE --detach [--tty] [--console-socket S] [--preserve-fds N] ID`"
)
@pytest.mark.parametrize("terminal", [False, True])
def test_exec_as_conmon_calls_it(
    runtime: Runtime, running: Bundle, folder: Path, console: ConsoleSocket, terminal: bool
) -> None:
    """conmon waits for the process as its child, and gets its status."""
    pid_file = folder / "pid"
    script = "test -t 0 && echo terminal; exit 7"
    process = process_file(folder, running, "sh", "-c", script, terminal=terminal)
    flags = ("--pid-file", pid_file, "--process", process, "--detach", "--preserve-fds", "0")
    tty = ("--tty", "--console-socket", console.path) if terminal else ()
    runtime.call("exec", *flags, *tty, running.id).ok()
    if terminal:
        with console.receive() as master:
            master.read_until(b"terminal")
            assert os.waitpid(int(pid_file.read_text()), 0)[1] == 7 << 8
    else:
        assert os.waitpid(int(pid_file.read_text()), 0)[1] == 7 << 8


EXEC_FAILURES: dict[str, dict[str, Any]] = {
    "program": {"args": ["not-there"]},
    "path": {"args": ["/not/there"]},
    "data": {"args": ["/etc/passwd"]},
    "folder": {"cwd": "/etc/passwd"},
    "limit": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1 << 40}]},
}


@pytest.mark.contract(
    "exec: non-zero exit without a pid file means that the runtime failed",
    "with one, it is the command's own status.",
)
@pytest.mark.parametrize("change", EXEC_FAILURES.values(), ids=EXEC_FAILURES)
@pytest.mark.parametrize("detach", [(), ("--detach",)], ids=["", "detach"])
def test_no_pid_file_of_an_exec_that_fails(
    runtime: Runtime, running: Bundle, folder: Path, detach: tuple[str, ...], change: dict[str, Any]
) -> None:
    process = process_file(folder, running, "true", **change)
    pid_file = folder / "pid"
    flags = ("--pid-file", pid_file, "--process", process, *detach)
    runtime.call("exec", *flags, running.id).failed()
    assert not pid_file.exists()


@pytest.mark.contract("with one, it is the command's own status.")
@pytest.mark.parametrize(
    ("script", "status"), [("exit 9", 9), ("kill -9 $$", 137), ("exit 255", 255)]
)
def test_pid_file_of_an_exec_that_runs(
    runtime: Runtime, running: Bundle, folder: Path, script: str, status: int
) -> None:
    pid_file = folder / "pid"
    done = runtime.call("exec", "--pid-file", pid_file, running.id, "sh", "-c", script)
    assert (done.status, done.out, done.err) == (status, "", "")
    assert pid_file.read_bytes().isdigit()


@pytest.mark.contract("Reads stderr once, at most 8191 bytes.")
@pytest.mark.only("ocirun")
@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("letter", ["x", "\N{SNOWMAN}", "\x01", "\\"])
def test_long_messages(runtime: Runtime, bundle: Bundle, form: str, letter: str) -> None:
    """What is cut is still one JSON object, and has its beginning."""
    for index in range(20):
        bundle.add("/linux/namespaces", {"type": letter * 600 + str(index)})
    runtime.options = ("--log-format", form)
    said = runtime.run(bundle).failed().err
    assert 4000 < len(said.encode()) <= 8191
    text = json.loads(said)["msg"] if form == "json" else said
    assert "config.json is invalid" in text[:300]


# Podman and Buildah


@pytest.mark.contract("Podman also: `--cgroup-manager disabled`")
@pytest.mark.only("ocirun", "crun")
def test_disabled_cgroups(runtime: Runtime, bundle: Bundle) -> None:
    """The container stays where its caller is, whatever the config asks for."""
    runtime.options = ("--cgroup-manager", "disabled")
    bundle.drop_namespace("cgroup").args("cat", "/proc/self/cgroup")
    seen = runtime.run(bundle).ok().out.splitlines()
    assert sorted(seen) == sorted(Path("/proc/self/cgroup").read_text().splitlines())


@pytest.mark.contract("`update --resources FILE`", "`update --resources - ID` reads stdin")
@pytest.mark.contract("`events`-like statistics read from cgroup files directly.")
@pytest.mark.parametrize("source", ["file", "-"])
def test_update_and_the_cgroups_files(
    runtime: Runtime, running: Bundle, folder: Path, source: str
) -> None:
    """They are where the config puts them, and engines read them themselves."""
    path = folder / "resources.json"
    path.write_text(json.dumps({"pids": {"limit": 77}, "memory": {"limit": 1 << 27}}))
    with path.open() as stdin:
        argument = path if source == "file" else "-"
        runtime.call("update", "--resources", argument, running.id, stdin=stdin).ok()
    place = running.config["linux"]["cgroupsPath"]

    def read(name: str) -> int:
        return int(Path(f"/sys/fs/cgroup/{name.partition('.')[0]}{place}/{name}").read_text())

    assert read("pids.max") == 77
    wait_for(lambda: read("pids.current") == 2, "its second process")
    assert read("memory.limit_in_bytes") == 1 << 27
    assert 0 < read("memory.usage_in_bytes") < 1 << 27
    assert read("cpuacct.usage") > 0


@pytest.mark.contract(
    "Buildah polls `state` every 100 ms, and accepts only `running` or `stopped` after start"
)
@pytest.mark.parametrize("script", ["exit 0", "sleep 0.2"])
def test_state_after_start(runtime: Runtime, bundle: Bundle, script: str) -> None:
    runtime.create(bundle.sh(script)).ok()
    runtime.start(bundle.id).ok()
    seen = [runtime.status(bundle.id)]
    while seen[-1] == "running" and len(seen) < 200:
        seen.append(runtime.status(bundle.id))
    assert seen == ["running"] * (len(seen) - 1) + ["stopped"]


@pytest.mark.contract("`kill ID`, `kill ID SIGKILL`.")
def test_kill_forms_of_buildah(runtime: Runtime, bundle: Bundle) -> None:
    runtime.call("run", "--detach", "--bundle", bundle.sleeper().write(), bundle.id).ok()
    runtime.call("kill", bundle.id).ok()
    runtime.wait_status(bundle.id, "stopped")
    runtime.call("delete", bundle.id).ok()
    runtime.call("run", "--detach", "--bundle", bundle.path, bundle.id).ok()
    runtime.call("kill", bundle.id, "SIGKILL").ok()
    runtime.wait_status(bundle.id, "stopped")


# containerd and Docker


@pytest.mark.contract(
    "`R --root R --log DIR/log.json --log-format json [--systemd-cgroup] CMD`",
    "`create --bundle B --pid-file P [--console-socket S] [--no-pivot] [--no-new-keyring] ID`",
    "`exec --process FILE --pid-file P [--detach] [--console-socket S] ID`",
    "`kill [--all] ID N` (a number)",
    "`delete [--force] ID`",
    "`ps --format json ID` prints an array of integers",
    "The pid file holds digits only, no newline.",
)
@pytest.mark.parametrize("terminal", [False, True])
def test_calls_of_the_containerd_shim(
    runtime: Runtime, bundle: Bundle, folder: Path, console: ConsoleSocket, terminal: bool
) -> None:
    log = folder / "log.json"
    runtime.options = ("--log", str(log), "--log-format", "json")
    pid_file = folder / "init.pid"
    socket_ = ("--console-socket", console.path) if terminal else ()
    path = bundle.sleeper().set("/process/terminal", terminal).write()
    flags = ("--bundle", path, "--pid-file", pid_file, *socket_, "--no-pivot", "--no-new-keyring")
    runtime.call("create", *flags, bundle.id).ok()
    masters = ExitStack()
    if terminal:
        masters.enter_context(console.receive())
    runtime.call("start", bundle.id).ok()
    process = process_file(folder, bundle, "sleep", "1000", terminal=terminal)
    flags = ("--process", process, "--pid-file", folder / "exec.pid", "--detach", *socket_)
    runtime.call("exec", *flags, bundle.id).ok()
    if terminal:
        masters.enter_context(console.receive())
    pids = [(folder / f"{name}.pid").read_text() for name in ("init", "exec")]
    assert all(map(str.isdigit, pids)), pids
    listed = runtime.call("ps", "--format", "json", bundle.id).ok().json
    assert all(type(pid) is int for pid in listed)
    assert set(map(int, pids)) <= set(listed)
    runtime.call("kill", "--all", bundle.id, "9").ok()
    os.waitpid(int(pids[1]), 0)  # as its parent by now; the shim is that otherwise
    runtime.wait_status(bundle.id, "stopped")
    runtime.call("delete", "--force", bundle.id).ok()
    masters.close()
    assert not log.exists() or log.read_text() == ""


@pytest.mark.contract("`kill [--all] ID N` (a number)", "`delete [--force] ID`")
def test_end_by_the_containerd_shim(runtime: Runtime, running: Bundle) -> None:
    """It tells the container's end by itself, and deletes without --force, or what is not there."""
    runtime.call("kill", running.id, "0").ok()
    runtime.call("kill", running.id, "9").ok()
    runtime.wait_status(running.id, "stopped")
    runtime.call("kill", "--all", running.id, "9")  # an error to runc 1.1, which the shim expects
    runtime.call("delete", running.id).ok()
    runtime.call("delete", "--force", running.id).ok()


@pytest.mark.contract("`events --stats ID`, `events --interval 1s ID`")
@pytest.mark.only("ocirun", "runc")
def test_events(runtime: Runtime, running: Bundle) -> None:
    listing = ("ps", "--format", "json", running.id)
    wait_for(lambda: len(runtime.call(*listing).ok().json) == 2, "its second process")
    stats = runtime.call("events", "--stats", running.id).ok().json
    assert (stats["type"], stats["id"]) == ("stats", running.id)
    assert stats["data"]["pids"]["current"] == 2
    argv = runtime.argv("events", "--interval", "1s", running.id)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        event = json.loads(process.stdout.readline())
        assert (event["type"], event["id"]) == ("stats", running.id)
        runtime.kill(running.id).ok()
        if runtime.kind == "runc":  # 1.1 goes on
            process.kill()
            return
        for line in process.stdout:  # up to the end, which is the container's
            assert json.loads(line)["id"] == running.id
        assert process.wait(10) == 0


@pytest.mark.contract("`features` without the global options.")
@pytest.mark.contract(
    "Docker reads `features` (a JSON document as in the OCI specification)"
    " to learn what the runtime can do."
)
def test_features_without_global_options(runtime: Runtime, kind: str) -> None:
    """Valid by the specification's schema: tests/unit/test_schema_conformance.py."""
    if kind == "crun":
        pytest.skip("crun: 1.8 has no `features`")
    done = subprocess.run([runtime.path, "features"], capture_output=True, timeout=20, check=True)
    assert done.stderr == b""
    found = json.loads(done.stdout)
    assert {"ociVersionMin", "ociVersionMax", "hooks", "mountOptions", "linux"} <= set(found)
    assert not runtime.root.exists()


# CRI-O


@pytest.mark.contract("`state`, `start`, `kill [-a] ID N`, `pause`, `resume`")
def test_calls_of_cri_o(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle.sleeper()).ok()
    seen = [runtime.status(bundle.id)]
    for args in (("start",), ("pause",), ("resume",), ("kill", "-a", "15"), ("kill", "9")):
        options = tuple(arg for arg in args[1:] if arg.startswith("-"))
        words = tuple(arg for arg in args[1:] if not arg.startswith("-"))
        runtime.call(args[0], *options, bundle.id, *words)
        seen.append(runtime.status(bundle.id))
    assert seen[:4] == ["created", "running", "paused", "running"]
    runtime.wait_status(bundle.id, "stopped")


@pytest.mark.contract("Any failure of `state` marks the container stopped.")
def test_state_never_fails(runtime: Runtime, bundle: Bundle, folder: Path) -> None:
    """While other commands work on the container, one of which holds it for a while."""
    runtime.create(bundle.sleeper()).ok()
    results: list[Result] = []
    done = threading.Event()
    driver = Runtime(runtime.path, runtime.kind, folder / "asked")
    driver.folder.mkdir()
    driver.root = runtime.root

    def ask() -> None:
        while not done.is_set():
            results.append(driver.call("state", bundle.id))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        runtime.start(bundle.id).ok()
        for _ in range(5):
            runtime.call("exec", bundle.id, "true").ok()
            runtime.call("pause", bundle.id).ok()
            runtime.call("update", "--pids-limit", "100", bundle.id).ok()
            runtime.call("resume", bundle.id).ok()
        runtime.kill(bundle.id).ok()
        runtime.wait_status(bundle.id, "stopped")
    finally:
        done.set()
        thread.join(20)
    statuses = [result.ok().json["status"] for result in results]
    assert set(statuses) <= {"created", "running", "paused", "stopped"}
    assert len(statuses) > 10


# Beyond the common set


@pytest.mark.contract("runc has `--pidfd-socket` on create, run and exec")
@pytest.mark.only("ocirun")
@pytest.mark.parametrize("command", ["create", "run", "exec"])
def test_pidfd_socket(runtime: Runtime, bundle: Bundle, folder: Path, command: str) -> None:
    path = str(folder / "pidfd")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        server.settimeout(10)
        bundle.sleeper().write()
        options: tuple[str | Path, ...] = ("--pidfd-socket", path)
        if command == "exec":
            runtime.run(bundle, "--detach").ok()
            runtime.call("exec", *options, "--detach", bundle.id, "sleep", "1000").ok()
        else:
            options += ("--detach",) if command == "run" else ()
            runtime.call(command, *options, "--bundle", bundle.path, bundle.id).ok()
        connection, _ = server.accept()
        with connection:
            _, (pidfd,), _, _ = socket.recv_fds(connection, 16, 1)
    fields = Path(f"/proc/self/fdinfo/{pidfd}").read_text().split()
    pid = int(fields[fields.index("Pid:") + 1])
    assert (pid == runtime.state(bundle.id)["pid"]) is (command != "exec")
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    end = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    assert end is not None
    assert (end.si_pid, end.si_status) == (pid, signal.SIGKILL)
    os.close(pidfd)


@pytest.mark.contract("`run --keep`")
@pytest.mark.only("ocirun")
def test_keep(runtime: Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.sh("exit 5"), "--keep").status == 5
    assert runtime.status(bundle.id) == "stopped"
    runtime.delete(bundle.id).ok()
    assert runtime.run(bundle.sh("exit 5")).status == 5
    assert runtime.containers() == []


@pytest.mark.contract(
    "`run --no-subreaper`",
    "Long options with one dash are sent by some callers (`restore ... -no-subreaper`)",
)
@pytest.mark.only("ocirun", "runc")
@pytest.mark.parametrize("options", [(), ("-no-subreaper",)], ids=["", "no-subreaper"])
def test_no_subreaper(runtime: Runtime, bundle: Bundle, options: tuple[str, ...]) -> None:
    """Who adopts the container's orphans: `run`, or else its caller."""
    bundle.drop_namespace("pid").sh("sh -c 'sleep 1000 & echo $!'; sleep 1000").write()
    argv = runtime.argv("run", *options, "--bundle", bundle.path, bundle.id)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        orphan = int(process.stdout.readline())
        adopter = os.getpid() if options else process.pid
        wait_for(lambda: parent(orphan) == adopter, "the adoption")
        if runtime.kind == "runc":
            os.kill(orphan, signal.SIGKILL)
        runtime.call("delete", "--force", bundle.id)
        process.wait(20)
    leaks.children()  # waits for the orphan
