"""create, start, state, kill, delete, run: the states of a container (OCI runtime.md)."""

import os
import signal
import subprocess
from collections.abc import Callable

import pytest
from lib.bundle import Bundle
from lib.leaks import PREFIX
from lib.runtime import Runtime, wait_for

UNKNOWN = "does not exist|no such file"


def created(runtime: Runtime, bundle: Bundle) -> str:
    """Creates a container that will wait for a signal when started; its id."""
    runtime.create(bundle.sleeper()).ok()
    return bundle.id


def running(runtime: Runtime, bundle: Bundle) -> str:
    container = created(runtime, bundle)
    runtime.start(container).ok()
    return container


def stopped(runtime: Runtime, bundle: Bundle) -> str:
    container = running(runtime, bundle)
    runtime.kill(container).ok()
    runtime.wait_status(container, "stopped")
    return container


def test_from_create_to_delete(runtime: Runtime, bundle: Bundle) -> None:
    container = created(runtime, bundle)
    assert runtime.status(container) == "created"
    runtime.start(container).ok()
    assert runtime.status(container) == "running"
    runtime.kill(container, "TERM").ok()
    runtime.wait_status(container, "stopped")
    runtime.delete(container).ok()
    runtime.call("state", container).failed(UNKNOWN)
    assert runtime.containers() == []


@pytest.mark.spec("/annotations", "/ociVersion")
def test_state_document(runtime: Runtime, bundle: Bundle) -> None:
    container = created(runtime, bundle.set("/annotations", {"org.example.key": "value"}))
    state = runtime.state(container)
    assert state["id"] == container
    assert state["bundle"] == str(bundle.path)
    assert state["annotations"]["org.example.key"] == "value"
    assert state["ociVersion"].startswith("1.")
    os.kill(state["pid"], 0)


def test_the_program_waits_for_start(runtime: Runtime, bundle: Bundle) -> None:
    shared = bundle.path / "shared"
    shared.mkdir()
    bundle.mount("/mnt", "bind", str(shared), "rbind", "rw")
    runtime.create(bundle.sh("echo started > /mnt/sign")).ok()
    assert not (shared / "sign").exists()
    runtime.start(bundle.id).ok()
    wait_for((shared / "sign").exists, "the program to run")
    runtime.wait_status(bundle.id, "stopped")


def test_bundle_is_the_current_folder_by_default(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("echo here").write()
    result = runtime.call("run", bundle.id, cwd=bundle.path).ok()
    assert result.out == "here\n"


def test_bundle_may_be_relative(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sleeper().write()
    cwd = bundle.path.parent
    runtime.call("create", "--bundle", bundle.path.name, bundle.id, cwd=cwd).ok()
    assert runtime.state(bundle.id)["bundle"] == str(bundle.path)
    runtime.start(bundle.id).ok()


def test_rootfs_path_may_be_absolute(runtime: Runtime, bundle: Bundle) -> None:
    bundle.set("/root/path", str(bundle.rootfs)).sh("echo absolute")
    assert runtime.run(bundle).ok().out == "absolute\n"


def test_create_of_an_existing_id(runtime: Runtime, bundle: Bundle) -> None:
    container = created(runtime, bundle)
    runtime.create(bundle).failed("exist")
    assert runtime.status(container) == "created"


def test_run_of_an_existing_id(runtime: Runtime, bundle: Bundle) -> None:
    container = running(runtime, bundle)
    runtime.run(bundle).failed("exist")
    assert runtime.status(container) == "running"


def test_an_id_can_be_used_again(runtime: Runtime, bundle: Bundle) -> None:
    for number in range(3):
        bundle.sh(f"echo {number}")
        assert runtime.run(bundle).ok().out == f"{number}\n"


def test_start_of_an_unknown_container(runtime: Runtime) -> None:
    runtime.start(f"{PREFIX}unknown").failed(UNKNOWN)


@pytest.mark.parametrize("command", ["state", "kill", "delete"])
def test_unknown_container(runtime: Runtime, command: str) -> None:
    more = ["KILL"] if command == "kill" else []
    result = runtime.call(command, f"{PREFIX}unknown", *more)
    result.failed(UNKNOWN)
    assert result.out == ""


def test_delete_force_of_an_unknown_container(runtime: Runtime) -> None:
    """As engines call it to clean up: not even a folder of its state is made."""
    done = runtime.delete(f"{PREFIX}unknown", "--force").ok()
    assert (done.out, done.err, runtime.containers()) == ("", "", [])


NOT_CREATED = "already running|has stopped|not running|exec.fifo"


def test_start_twice(runtime: Runtime, bundle: Bundle) -> None:
    container = running(runtime, bundle)
    runtime.start(container).failed(NOT_CREATED)
    assert runtime.status(container) == "running"


def test_start_of_a_stopped_container(runtime: Runtime, bundle: Bundle) -> None:
    container = stopped(runtime, bundle)
    runtime.start(container).failed(NOT_CREATED)
    assert runtime.status(container) == "stopped"


def test_kill_of_a_stopped_container(runtime: Runtime, bundle: Bundle) -> None:
    container = stopped(runtime, bundle)
    runtime.kill(container).failed("not running|no such process")
    assert runtime.status(container) == "stopped"


def test_kill_of_a_created_container(runtime: Runtime, bundle: Bundle) -> None:
    container = created(runtime, bundle)
    runtime.kill(container).ok()
    runtime.wait_status(container, "stopped")
    runtime.delete(container).ok()


@pytest.mark.parametrize("name", ["KILL", "SIGKILL", "9", "kill", "sigkill"])
def test_names_of_signals(runtime: Runtime, bundle: Bundle, name: str) -> None:
    assert ended_by(runtime, bundle, name) == 128 + signal.SIGKILL


def test_kill_sends_term_by_default(runtime: Runtime, bundle: Bundle) -> None:
    assert ended_by(runtime, bundle) == 7


def ended_by(runtime: Runtime, bundle: Bundle, *name: str) -> int:
    """The exit status of `run` of a container, 7 if it got SIGTERM, after a `kill`."""
    bundle.sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done").write()
    argv = runtime.argv("run", "--bundle", bundle.path, bundle.id)
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        runtime.call("kill", bundle.id, *name).ok()
        return process.wait(20)


@pytest.mark.parametrize("name", ["SIGFOO", "", "-1", "1000"])
def test_kill_with_an_unknown_signal(runtime: Runtime, bundle: Bundle, name: str) -> None:
    container = running(runtime, bundle)
    runtime.call("kill", container, "--", name).failed()
    assert runtime.status(container) == "running"


def test_kill_reaches_the_process(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sh("trap 'echo caught; exit 7' USR1; echo ready; while :; do sleep 0.05; done")
    created = runtime.create(bundle).ok()
    runtime.start(bundle.id).ok()
    wait_for(lambda: created.out == "ready\n", "the trap")
    runtime.kill(bundle.id, "USR1").ok()
    wait_for(lambda: created.out == "ready\ncaught\n", "the signal")
    runtime.wait_status(bundle.id, "stopped")


def test_delete_of_a_running_container(runtime: Runtime, bundle: Bundle) -> None:
    container = running(runtime, bundle)
    runtime.delete(container).failed("not stopped|not in `created` or `stopped`")
    assert runtime.status(container) == "running"


@pytest.mark.parametrize("prepare", [created, running, stopped])
def test_delete_force(
    runtime: Runtime, bundle: Bundle, prepare: Callable[[Runtime, Bundle], str]
) -> None:
    container = prepare(runtime, bundle)
    pid = runtime.state(container)["pid"]
    runtime.delete(container, "--force").ok()
    runtime.delete(container, "--force").ok()
    runtime.call("state", container).failed(UNKNOWN)
    if pid:
        wait_for(lambda: gone(pid), f"process {pid} to be gone")


def gone(pid: int) -> bool:
    """Whether the process has ended; it may be a zombie of ours."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return not os.path.exists(f"/proc/{pid}")


def test_stopped_when_the_process_was_killed_from_outside(runtime: Runtime, bundle: Bundle) -> None:
    container = running(runtime, bundle)
    os.kill(runtime.state(container)["pid"], signal.SIGKILL)
    runtime.wait_status(container, "stopped")
    runtime.delete(container).ok()


def test_stopped_when_the_waiting_process_was_killed(runtime: Runtime, bundle: Bundle) -> None:
    container = created(runtime, bundle)
    os.kill(runtime.state(container)["pid"], signal.SIGKILL)
    runtime.wait_status(container, "stopped")
    runtime.start(container).failed()
    runtime.delete(container).ok()


def test_the_whole_container_ends_with_its_init(runtime: Runtime, bundle: Bundle) -> None:
    created = runtime.create(bundle.sh("sleep 1000 & sleep 1000 & echo ready; wait")).ok()
    runtime.start(bundle.id).ok()
    wait_for(lambda: created.out, "its processes")
    pids = runtime.call("ps", "--format", "json", bundle.id).ok().json
    assert len(pids) == 3
    runtime.kill(bundle.id).ok()
    runtime.wait_status(bundle.id, "stopped")
    runtime.delete(bundle.id).ok()
    assert all(gone(pid) for pid in pids)


def test_delete_ends_processes_that_share_the_hosts_pid_namespace(
    runtime: Runtime, bundle: Bundle
) -> None:
    bundle.drop_namespace("pid").sh("sleep 1000 & echo $!; wait")
    created = runtime.create(bundle).ok()
    runtime.start(bundle.id).ok()
    wait_for(lambda: created.out, "the second process")
    pid = int(created.out)
    runtime.delete(bundle.id, "--force").ok()
    wait_for(lambda: gone(pid), "the end of the second process")


# Exit status of run


@pytest.mark.parametrize("status", [0, 1, 42, 125, 126, 127, 128, 255])
def test_run_exits_with_the_status_of_the_process(
    runtime: Runtime, bundle: Bundle, status: int
) -> None:
    result = runtime.run(bundle.args("/bin/probe", "--exit", str(status)))
    assert result.status == status
    assert result.err == ""
    assert runtime.containers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1])
def test_run_exits_with_128_plus_the_signal(runtime: Runtime, bundle: Bundle, number: int) -> None:
    # The init of a pid namespace ignores signals of its own, so a namespace is shared.
    bundle.drop_namespace("pid").args("/bin/probe", "--signal", str(int(number)))
    assert runtime.run(bundle).status == 128 + number


def test_killed_from_outside_during_run(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sleeper().write()
    process = runtime.popen("run", "--bundle", bundle.path, bundle.id)
    wait_for(lambda: bundle.id in runtime.containers(), "the container")
    wait_for(lambda: runtime.call("state", bundle.id).out.count("running"), "it to run")
    runtime.kill(bundle.id, "KILL").ok()
    assert process.wait(20) == 128 + signal.SIGKILL
    assert runtime.containers() == []


def test_run_detached(runtime: Runtime, bundle: Bundle) -> None:
    runtime.run(bundle.sleeper(), "--detach").ok()
    assert runtime.status(bundle.id) == "running"
    runtime.kill(bundle.id, "TERM").ok()
    runtime.wait_status(bundle.id, "stopped")
    runtime.delete(bundle.id).ok()


# Files


@pytest.mark.parametrize("command", ["create", "run"])
def test_pid_file(runtime: Runtime, bundle: Bundle, command: str) -> None:
    pid_file = bundle.path / "pid"
    detach = ["--detach"] if command == "run" else []
    bundle.sleeper().write()
    runtime.call(command, "--bundle", bundle.path, "--pid-file", pid_file, *detach, bundle.id).ok()
    assert pid_file.read_text() == str(runtime.state(bundle.id)["pid"])


def test_pid_file_in_a_missing_folder(runtime: Runtime, bundle: Bundle) -> None:
    pid_file = bundle.path / "missing/pid"
    runtime.create(bundle.sleeper(), "--pid-file", pid_file).failed("no such file")
    assert runtime.containers() == []


def test_two_roots_are_two_worlds(
    runtime: Runtime, bundle: Bundle, runtime_path: os.PathLike[str]
) -> None:
    container = created(runtime, bundle)
    other = subprocess.run(
        [runtime_path, "--root", bundle.path / "other", "state", container],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert other.returncode > 0


def test_state_folder_is_private(runtime: Runtime, bundle: Bundle) -> None:
    container = created(runtime, bundle)
    assert (runtime.root / container).stat().st_mode & 0o077 & ~0o011 == 0


def test_list(runtime: Runtime, make_bundle: Callable[..., Bundle]) -> None:
    assert runtime.call("list", "--quiet").ok().out == ""
    ids = sorted(created(runtime, make_bundle()) for _ in range(3))
    runtime.start(ids[1]).ok()
    assert sorted(runtime.call("list", "--quiet").ok().out.split()) == ids
    listed = runtime.call("list", "--format", "json").ok().json
    assert {c["id"]: c["status"] for c in listed} == {
        ids[0]: "created",
        ids[1]: "running",
        ids[2]: "created",
    }
    table = runtime.call("list").ok().out.splitlines()
    assert len(table) == 4
    assert all(word in table[0] for word in ("ID", "PID", "STATUS", "BUNDLE"))


# Names


@pytest.mark.parametrize(
    "name", ["../x", "..", ".", "", "a/b", "/", "a b", "x" * 5000, "ä", "a\nb"]
)
@pytest.mark.parametrize("command", ["create", "run"])
def test_hostile_ids(runtime: Runtime, bundle: Bundle, command: str, name: str) -> None:
    bundle.sh("true").write()
    before = sorted(p for p in bundle.path.parent.rglob("*") if "call-" not in p.name)
    runtime.call(command, "--bundle", bundle.path, "--", name).failed()
    after = sorted(p for p in bundle.path.parent.rglob("*") if "call-" not in p.name)
    assert [p for p in after if p not in before and p != runtime.root] == []


@pytest.mark.parametrize("command", ["state", "kill", "delete", "start"])
def test_hostile_ids_of_existing_folders(runtime: Runtime, bundle: Bundle, command: str) -> None:
    container = created(runtime, bundle)
    more = ["KILL"] if command == "kill" else []
    runtime.call(command, f"../state/{container}", *more).failed()
    assert runtime.status(container) == "created"


@pytest.mark.parametrize("name", ["a.b", "A_b+c-d", "0", "a.", "_"])
def test_good_ids(runtime: Runtime, bundle: Bundle, name: str) -> None:
    bundle.id = PREFIX + name
    assert runtime.run(bundle.sh("echo fine")).ok().out == "fine\n"


# At once, and half way


def test_two_creates_of_one_id_at_once(runtime: Runtime, bundle: Bundle) -> None:
    bundle.sleeper().write()
    for _ in range(5):
        streams = [(bundle.path / f"race{n}").open("w+") for n in (1, 2)]
        both = [
            runtime.popen("create", "--bundle", bundle.path, bundle.id, stderr=stream)
            for stream in streams
        ]
        statuses = sorted(process.wait(20) for process in both)
        messages = []
        for stream in streams:
            stream.seek(0)
            messages.append(stream.read())
            stream.close()
        assert statuses[0] == 0
        assert statuses[1] > 0, "two winners"
        assert any("exist" in message for message in messages)
        assert runtime.status(bundle.id) == "created"
        runtime.start(bundle.id).ok()
        assert runtime.status(bundle.id) == "running"
        runtime.delete(bundle.id, "--force").ok()


@pytest.mark.parametrize("milliseconds", [1, 3, 6, 9, 12, 16, 20, 25, 30, 40])
def test_create_killed_half_way(runtime: Runtime, bundle: Bundle, milliseconds: int) -> None:
    bundle.sleeper().write()
    process = runtime.popen("create", "--bundle", bundle.path, bundle.id)
    try:
        process.wait(milliseconds / 1000)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    runtime.call("list").ok()
    runtime.delete(bundle.id, "--force").ok()
    runtime.delete(bundle.id, "--force").ok()
    assert runtime.containers() == []
    runtime.create(bundle).ok()
    assert runtime.status(bundle.id) == "created"
