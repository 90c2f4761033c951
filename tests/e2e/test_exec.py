"""`exec`: one more process in a container that runs."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lib.bundle import Bundle
from lib.leaks import children
from lib.runtime import Runtime, wait_for
from lib.terminal import ConsoleSocket, Terminal


@pytest.fixture
def running(runtime: Runtime, bundle: Bundle) -> Bundle:
    """A container that waits."""
    return start(runtime, bundle)


def start(runtime: Runtime, bundle: Bundle) -> Bundle:
    runtime.create(bundle.sleeper()).ok()
    runtime.start(bundle.id).ok()
    return bundle


def in_container(runtime: Runtime, bundle: Bundle, *options: str) -> Any:
    """What the probe sees when it is executed in the container."""
    return runtime.call("exec", *options, bundle.id, "/bin/probe").ok().json


def test_status_and_streams(runtime: Runtime, running: Bundle, tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text("spam\n")
    with words.open() as stdin:
        done = runtime.call(
            "exec", running.id, "sh", "-c", "cat; echo eggs >&2; exit 7", stdin=stdin
        )
    assert (done.status, done.out, done.err) == (7, "spam\n", "eggs\n")


@pytest.mark.parametrize("space", ["pid", "mnt", "uts", "ipc", "net", "cgroup"])
def test_namespaces_are_those_of_init(runtime: Runtime, running: Bundle, space: str) -> None:
    init = os.readlink(f"/proc/{runtime.state(running.id)['pid']}/ns/{space}")
    seen = runtime.call("exec", running.id, "readlink", f"/proc/self/ns/{space}").ok().out
    assert seen.strip() == init


def test_user_namespace(runtime: Runtime, bundle: Bundle) -> None:
    start(runtime, bundle.user_namespace())
    assert runtime.call("exec", bundle.id, "cat", "/proc/self/uid_map").ok().out.split() == [
        "0", "100000", "65536"
    ]  # fmt: skip
    assert runtime.call("exec", bundle.id, "id", "-u").ok().out == "0\n"


def test_cgroups_are_those_of_init(runtime: Runtime, running: Bundle) -> None:
    script = "exec cat /proc/1/cgroup /proc/self/cgroup"
    lines = runtime.call("exec", running.id, "sh", "-c", script).ok().out.splitlines()
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
    assert lines


def test_process_of_the_container(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/process/user", {"uid": 5, "gid": 6, "additionalGids": [7], "umask": 0o27})
    bundle.set("/process/cwd", "/tmp").add("/process/env", "SPAM=eggs")
    bundle.set("/process/rlimits", [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}])
    start(runtime, bundle)
    script = (
        "id -u; id -g; id -G; umask; pwd; echo $SPAM; ulimit -n; grep NoNewPrivs /proc/self/status"
    )
    seen = runtime.call("exec", bundle.id, "sh", "-c", script).ok().out.split()
    assert seen == ["5", "6", "6", "7", "0027", "/tmp", "eggs", "77", "NoNewPrivs:", "1"]


OPTIONS = [
    (("--cwd", "/tmp"), "pwd", "/tmp"),
    (("--env", "A=1", "--env", "B=2"), "echo $A$B", "12"),
    (("--user", "12"), "id -u; id -g", "12 0"),
    (("-u", "12:13"), "id -u; id -g", "12 13"),
    (("-g", "21", "-g", "22"), "id -G", "0 21 22"),
    (("--additional-gids", "21"), "id -G", "0 21"),
    (("--cap", "CAP_NET_RAW"), "grep CapBnd /proc/self/status", "CapBnd: 0000000020002420"),
]


@pytest.mark.contract("`--additional-gids`")
@pytest.mark.parametrize(
    ("options", "script", "seen"), OPTIONS, ids=[o[0][0].strip("-") for o in OPTIONS]
)
def test_options(
    runtime: Runtime, running: Bundle, options: tuple[str, ...], script: str, seen: str
) -> None:
    done = runtime.call("exec", *options, running.id, "sh", "-c", script).ok()
    assert done.out.split() == seen.split()


@pytest.mark.only("ocirun")
@pytest.mark.spec("/process/execCPUAffinity/initial", "/process/execCPUAffinity/final")
@pytest.mark.parametrize(
    ("affinity", "cpus"),
    [({"initial": "0", "final": "1"}, "1"), ({"initial": "1"}, "1"), ({"final": "0"}, "0")],
)
def test_processors(runtime: Runtime, bundle: Bundle, affinity: dict[str, str], cpus: str) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    start(runtime, bundle.set("/process/execCPUAffinity", affinity))
    done = runtime.call("exec", bundle.id, "grep", "Cpus_allowed_list", "/proc/self/status")
    assert done.ok().out.split()[1] == cpus
    # Of init it says nothing.
    init = Path(f"/proc/{runtime.state(bundle.id)['pid']}/status").read_text()
    assert f"Cpus_allowed_list:\t{cpus}\n" not in init


def test_no_new_privs(runtime: Runtime, bundle: Bundle) -> None:
    start(runtime, bundle.set("/process/noNewPrivileges", False))
    for options, seen in (((), "0"), (("--no-new-privs",), "1")):
        done = runtime.call("exec", *options, bundle.id, "grep", "NoNewPrivs", "/proc/self/status")
        assert done.ok().out.split()[1] == seen


def test_process_file(runtime: Runtime, running: Bundle, tmp_path: Path) -> None:
    process = {
        "args": ["sh", "-c", "id -u; pwd; echo $A; grep CapEff /proc/self/status"],
        "cwd": "/bin",
        "env": ["PATH=/bin", "A=spam"],
        "user": {"uid": 0, "gid": 0},
        "capabilities": {name: ["CAP_KILL"] for name in ("bounding", "effective", "permitted")},
    }
    path = tmp_path / "process.json"
    path.write_text(json.dumps(process))
    seen = runtime.call("exec", "--process", path, running.id).ok().out.split()
    assert seen == ["0", "/bin", "spam", "CapEff:", "0000000000000020"]


@pytest.mark.only("ocirun")
@pytest.mark.parametrize(
    ("process", "words"),
    [
        ("{", "is expected here"),
        ("[]", "not an object"),
        ('{"cwd": "/", "args": 5}', "args"),
        ('{"cwd": "tmp", "args": ["true"]}', "cwd"),
        ('{"cwd": "/", "args": ["true"], "rlimits": [{"type": "X", "soft": 1, "hard": 1}]}', "x"),
    ],
)
def test_bad_process(
    runtime: Runtime, running: Bundle, tmp_path: Path, process: str, words: str
) -> None:
    path = tmp_path / "process.json"
    path.write_text(process)
    assert runtime.call("exec", "--process", path, running.id).failed(words).status == 255


def test_config_as_of_create(runtime: Runtime, running: Bundle) -> None:
    running.set("/process/user", {"uid": 99, "gid": 99}).write()
    assert runtime.call("exec", running.id, "id", "-u").ok().out == "0\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("nothere", "executable file"),
        ("/no/such/file", "no such file or directory"),
        ("/etc", "permission denied|is a directory"),
    ],
)
def test_no_such_command(runtime: Runtime, running: Bundle, command: str, words: str) -> None:
    runtime.call("exec", running.id, command).failed(words)


def test_detached(runtime: Runtime, running: Bundle, tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    runtime.call("exec", "--detach", "--pid-file", pid_file, running.id, "sleep", "1000").ok()
    pid = int(pid_file.read_text())
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\0"
    assert pid in json.loads(runtime.call("ps", "--format", "json", running.id).ok().out)
    # It goes with the container, whose pid namespace lasts until somebody has waited for it.
    runtime.kill(running.id)
    assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)


def test_signals_are_passed_on(runtime: Runtime, running: Bundle) -> None:
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    process = runtime.popen("exec", running.id, "sh", "-c", script, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 9
    process.stdout.close()


def test_killed_by_a_signal(runtime: Runtime, running: Bundle) -> None:
    assert runtime.call("exec", running.id, "sh", "-c", "kill -9 $$").status == 137


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with Terminal() as master:
        yield master


def test_terminal(runtime: Runtime, running: Bundle, terminal: Terminal) -> None:
    terminal.resize(33, 99)
    terminal.spawn(runtime.argv("exec", "--tty", running.id, "/bin/probe"))
    assert terminal.wait() == 0
    seen = json.loads(terminal.seen)
    assert seen["tty"] == [1, 1, 1]
    assert seen["tty_size"] == [33, 99]
    assert seen["tty_name"] == "/dev/pts/0"


def test_console_socket(runtime: Runtime, running: Bundle, tmp_path: Path) -> None:
    with ConsoleSocket(tmp_path / "console") as server:
        pid_file = tmp_path / "pid"
        options = ("--tty", "--detach", "--console-socket", str(server.path))
        options += ("--pid-file", str(pid_file))
        runtime.call("exec", *options, running.id, "sh", "-c", "tty; read x; echo $x").ok()
        with server.receive() as master:
            master.read_until(b"/dev/pts/0")
            master.write(b"spam\n")
            master.read_until(b"spam\r\nspam")
        assert os.waitpid(int(pid_file.read_text()), 0)[1] == 0


def test_terminal_needs_a_holder(runtime: Runtime, running: Bundle) -> None:
    runtime.call("exec", "--tty", "--detach", running.id, "true").failed("terminal|console")


def test_preserved_descriptors(runtime: Runtime, running: Bundle, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("spam")
    fd = os.open(file, os.O_RDONLY)
    argv = runtime.argv("exec", "--preserve-fds", "1", running.id, "cat", "/proc/self/fd/3")
    done = subprocess.run(
        ["bash", "-c", f'exec 3<&{fd}; exec "$@"', "bash", *argv],
        pass_fds=[fd], capture_output=True, check=True, timeout=20,
    )  # fmt: skip
    os.close(fd)
    assert done.stdout == b"spam"


def test_no_descriptor_is_left(runtime: Runtime, running: Bundle) -> None:
    seen = runtime.call("exec", running.id, "ls", "/proc/self/fd").ok().out.split()
    assert seen == ["0", "1", "2", "3"]  # 3 is that of ls


@pytest.mark.contract("`exec --cgroup`")
@pytest.mark.only("ocirun", "runc")
def test_cgroup_below(runtime: Runtime, running: Bundle) -> None:
    pid = runtime.state(running.id)["pid"]
    line = next(x for x in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if ":pids:" in x)
    folder = Path("/sys/fs/cgroup/pids" + line.split(":")[2], "inner")
    folder.mkdir()
    try:
        done = runtime.call(
            "exec", "--cgroup", "pids:inner", running.id, "cat", "/proc/self/cgroup"
        )
        assert f":pids:{line.split(':')[2]}/inner" in done.ok().out or ":pids:/inner" in done.out
        runtime.call("exec", "--cgroup", "pids:none", running.id, "true").failed("cgroup")
        runtime.call("exec", "--cgroup", "pids:../..", running.id, "true").failed("cgroup")
    finally:
        folder.rmdir()


# What state a container must be in.


def test_created_container(runtime: Runtime, bundle: Bundle) -> None:
    runtime.create(bundle.sleeper()).ok()
    assert runtime.call("exec", bundle.id, "echo", "spam").ok().out == "spam\n"


def test_stopped_container(runtime: Runtime, running: Bundle) -> None:
    runtime.kill(running.id)
    runtime.wait_status(running.id, "stopped")
    runtime.call("exec", running.id, "true").failed("stopped|not running")


def test_unknown_container(runtime: Runtime, running: Bundle) -> None:
    runtime.call("exec", "nobody", "true").failed("does not exist")


def test_paused_container(runtime: Runtime, running: Bundle) -> None:
    runtime.call("pause", running.id).ok()
    assert runtime.status(running.id) == "paused"
    runtime.call("exec", running.id, "true").failed("paused")
    runtime.call("resume", running.id).ok()
    assert runtime.status(running.id) == "running"
    runtime.call("exec", running.id, "true").ok()


def test_pause_stops_processes(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("while :; do echo >> /tmp/ticks; sleep 0.01; done").mount("/tmp", "tmpfs", "tmpfs")
    runtime.create(bundle).ok()
    runtime.start(bundle.id).ok()
    ticks = Path(f"/proc/{runtime.state(bundle.id)['pid']}/root/tmp/ticks")
    wait_for(ticks.exists, "a tick")
    runtime.call("pause", bundle.id).ok()
    before = ticks.stat().st_size
    time.sleep(0.1)
    assert ticks.stat().st_size == before
    runtime.call("resume", bundle.id).ok()
    wait_for(lambda: ticks.stat().st_size > before, "another tick")


@pytest.mark.parametrize("terminal_wanted", [False, True])
def test_joined_mount_namespace(
    runtime: Runtime, bundle: Bundle, terminal: Terminal, terminal_wanted: bool
) -> None:
    """The container's root is below the top of that namespace, where the host's files are."""
    holder = subprocess.Popen(["unshare", "--mount", "cat"], stdin=subprocess.PIPE)
    own, place = os.readlink("/proc/self/ns/mnt"), f"/proc/{holder.pid}/ns/mnt"
    try:
        wait_for(lambda: os.readlink(place) != own, "the mount namespace")
        start(runtime, bundle.namespace("mount", place))
        command = ("sh", "-c", f"ls /; test -e {bundle.path}; echo $?; pwd")
        expected = [*sorted(os.listdir(bundle.rootfs)), "1", "/"]
        if terminal_wanted:
            terminal.spawn(runtime.argv("exec", "--tty", bundle.id, *command))
            assert terminal.wait() == 0
            assert terminal.seen.decode().split() == expected
        else:
            assert runtime.call("exec", bundle.id, *command).ok().out.split() == expected
    finally:
        runtime.delete(bundle.id, "--force")
        holder.communicate(timeout=20)


def test_pause_and_resume_in_the_wrong_status(runtime: Runtime, running: Bundle) -> None:
    runtime.call("resume", running.id).failed("paused")
    runtime.kill(running.id)
    runtime.wait_status(running.id, "stopped")
    runtime.call("pause", running.id).failed()


@pytest.fixture
def waiting(runtime: Runtime, bundle: Bundle) -> Iterator["subprocess.Popen[bytes]"]:
    """An exec in a paused container, which would make /tmp/made and say so."""
    start(runtime, bundle.mount("/tmp", "tmpfs", "tmpfs"))
    runtime.call("pause", bundle.id).ok()
    words = ("exec", "--ignore-paused", bundle.id, "sh", "-c", "touch /tmp/made; echo made; exit 3")
    process = runtime.popen(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    yield process
    process.kill()
    process.communicate(timeout=10)


@pytest.mark.only("ocirun", "runc")
def test_ignore_paused(runtime: Runtime, bundle: Bundle, waiting: Any) -> None:
    """It is paused like all of them, and goes on with them."""
    assert runtime.status(bundle.id) == "paused"
    runtime.call("resume", bundle.id).ok()
    assert waiting.communicate(timeout=10) == (b"made\n", b"")
    assert waiting.returncode == 3


@pytest.mark.only("ocirun")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_ignore_paused_no_longer(
    runtime: Runtime, bundle: Bundle, waiting: Any, number: signal.Signals
) -> None:
    """Who does not want to wait any more sends a signal; the command is not executed later."""
    waiting.send_signal(signal.SIGWINCH)
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.1)
    waiting.send_signal(number)
    assert waiting.wait(10) == -number
    runtime.call("resume", bundle.id).ok()

    init = runtime.state(bundle.id)["pid"]
    wait_for(lambda: children() == {init}, "its end")  # it was this process's child at last
    assert not Path(f"/proc/{init}/root/tmp/made").exists()


@pytest.mark.only("ocirun")
def test_ignore_paused_in_a_container_that_is_deleted(
    runtime: Runtime, bundle: Bundle, waiting: Any
) -> None:
    runtime.delete(bundle.id, "--force").ok()
    _, err = waiting.communicate(timeout=10)
    assert waiting.returncode == 255
    assert err != b""


@pytest.mark.only("ocirun", "runc")
def test_ignore_paused_in_one_that_runs(runtime: Runtime, running: Bundle) -> None:
    script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    words = ("exec", "--ignore-paused", running.id, "sh", "-c", script)
    with runtime.popen(*words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 9


def test_paused_before_its_start(runtime: Runtime, bundle: Bundle) -> None:
    """It is not started behind the caller's back, nor does `start` wait for `resume`."""
    created = bundle.sleeper()
    runtime.create(created).ok()
    runtime.call("pause", created.id).ok()
    assert runtime.status(created.id) == "paused"
    runtime.start(created.id).failed("cannot start a container in the paused state")
    runtime.call("resume", created.id).ok()
    assert runtime.status(created.id) == "created"
    runtime.start(created.id).ok()


def test_start_of_a_paused_container(runtime: Runtime, running: Bundle) -> None:
    runtime.call("pause", running.id).ok()
    runtime.start(running.id).failed("cannot start")
    assert runtime.status(running.id) == "paused"


@pytest.mark.parametrize("options", [(), ("--all",)], ids=["init", "all"])
def test_kill_ends_a_paused_container(
    runtime: Runtime, running: Bundle, options: tuple[str, ...]
) -> None:
    runtime.call("pause", running.id).ok()
    runtime.call("kill", *options, running.id, "KILL").ok()
    runtime.wait_status(running.id, "stopped")


def test_signal_of_a_paused_container_waits(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/root/readonly", False)
    bundle.sh("trap exit USR1; echo > /ready; while :; do sleep 0.05; done")
    runtime.run(bundle, "--detach").ok()
    wait_for((bundle.rootfs / "ready").exists, "the trap")
    runtime.call("pause", bundle.id).ok()
    runtime.call("kill", "--all", bundle.id, "USR1").ok()
    assert runtime.status(bundle.id) == "paused"
    runtime.call("resume", bundle.id).ok()
    runtime.wait_status(bundle.id, "stopped")


def test_delete_paused_by_force(runtime: Runtime, running: Bundle) -> None:
    runtime.call("pause", running.id).ok()
    runtime.delete(running.id, "--force").ok()
    assert running.id not in runtime.containers()


def test_ps_table(runtime: Runtime, running: Bundle) -> None:
    pid = str(runtime.state(running.id)["pid"])
    lines = runtime.call("ps", running.id).ok().out.splitlines()
    assert "PID" in lines[0]
    assert any(pid in line.split() for line in lines[1:])
    assert (
        len(runtime.call("ps", running.id, "-o", "pid,comm").ok().out.splitlines()[0].split()) == 2
    )
    runtime.call("ps", running.id, "-o", "comm").failed("pid")


# What a hostile container must not be able to do.


def test_not_traceable(runtime: Runtime, bundle: Bundle) -> None:
    """A process of the container cannot see what the runtime is before the execve.

    But with CAP_SYS_PTRACE outside a user namespace, which is all that the kernel asks for.
    """
    script = (
        "while :; do for p in /proc/[0-9]*; do "
        "e=$(readlink $p/exe) && case $e in /bin/*) ;; *) echo $e >> /tmp/seen;; esac; done; done"
    )
    bundle.sh(script).mount("/tmp", "tmpfs", "tmpfs")
    runtime.create(bundle).ok()
    runtime.start(bundle.id).ok()
    for _ in range(30):
        runtime.call("exec", bundle.id, "true").ok()
    seen = Path(f"/proc/{runtime.state(bundle.id)['pid']}/root/tmp/seen")
    assert not seen.exists() or "python" not in seen.read_text()


def test_command_behind_a_magic_link(runtime: Runtime, running: Bundle) -> None:
    (running.rootfs / "bin/self").symlink_to("/proc/self/exe")
    done = runtime.call("exec", running.id, "/bin/self", "--version")
    assert done.status != 0 or "ocirun" not in done.out
