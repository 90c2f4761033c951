"""The public library: the same containers, from Python, without a command."""

import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lib.bundle import Bundle
from lib.runtime import Runtime as Command
from lib.seccomp import docker_profile

import ocirun
from ocirun.errors import AlreadyExists, CommandNotFound, NotFound, StepFailed, WrongStatus

pytestmark = [pytest.mark.root, pytest.mark.only("ocirun")]


UNIFIED = Path("/sys/fs/cgroup/unified")


@pytest.fixture
def v1_only() -> Iterator[None]:
    """Hides the v2 hierarchy of a hybrid host: only then can init be a spare."""
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("no cgroup v1 hierarchies on this host: init is always born in its v2 cgroup")
    if not UNIFIED.is_dir():
        yield
        return
    subprocess.run(["mount", "-t", "tmpfs", "none", UNIFIED], check=True)
    yield
    subprocess.run(["umount", UNIFIED], check=True)


@pytest.fixture(params=["as it is", "v1"])
def rt(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ocirun.Runtime]:
    """A Runtime; once with the host's cgroups as they are, and once with v1 and spares."""
    if request.param == "v1":
        request.getfixturevalue("v1_only")
    yield from opened(tmp_path)


@pytest.fixture
def sparing(v1_only: None, tmp_path: Path) -> Iterator[ocirun.Runtime]:
    """A Runtime whose executor makes spares."""
    yield from opened(tmp_path)


def opened(tmp_path: Path) -> Iterator[ocirun.Runtime]:
    """A Runtime that must leave nothing behind."""
    before = len(os.listdir("/proc/self/fd"))
    with ocirun.Runtime(tmp_path / "state") as made:
        yield made
        assert made.list() == []
    assert len(os.listdir("/proc/self/fd")) == before, "descriptors were left open"


def test_the_life_of_a_container(rt: ocirun.Runtime, bundle: Bundle) -> None:
    container = rt.create(bundle.id, bundle.args("/bin/sleep", "100").write())
    assert container.state()["status"] == "created"
    with pytest.raises(AlreadyExists):
        rt.create(bundle.id, bundle.path)
    container.start()
    assert rt.get(bundle.id).state()["status"] == "running"
    assert [(info.id, info.status) for info in rt.list()] == [(bundle.id, "running")]
    assert container.pid > 0
    with pytest.raises(WrongStatus):
        container.start()
    with pytest.raises(WrongStatus):
        container.delete()
    with pytest.raises(ocirun.ContainerTimeout):
        container.wait(timeout=0.05)
    with pytest.raises(ocirun.ContainerTimeout):
        rt.get(bundle.id).wait(timeout=0.05)
    assert container.usage is None
    container.kill("KILL")
    assert container.wait(timeout=10) == 137
    assert rt.get(bundle.id).wait(timeout=10) is None
    assert container.usage is not None and container.usage.max_rss > 0
    container.delete()
    with pytest.raises(NotFound):
        container.state()


def test_run_returns_the_exit_status(rt: ocirun.Runtime, bundle: Bundle) -> None:
    done = rt.run(bundle.sh("exit 7").write())
    assert (done.exit_status, done.stdout, done.stderr, done.oom_killed) == (7, None, None, False)
    assert done.id.startswith("run-")
    with pytest.raises(ocirun.ContainerFailed) as caught:
        rt.run(bundle.path, id="named", check=True)
    assert caught.value.container.id == "named"
    assert rt.run(bundle.sh("kill -USR1 $$; exit 0").write()).exit_status in (0, 128 + 10)


STREAMS = (
    ({"capture_output": True}, "echo out; echo err >&2", b"out\n", b"err\n"),
    ({"capture_output": True, "text": True}, "echo out", "out\n", ""),
    ({"stdout": ocirun.PIPE}, "echo out", b"out\n", None),
    (
        {"stdout": ocirun.PIPE, "stderr": ocirun.STDOUT},
        "echo out; echo err >&2",
        b"out\nerr\n",
        None,
    ),
    ({"stdout": ocirun.PIPE, "input": b"abc"}, "cat", b"abc", None),
    ({"stdout": ocirun.PIPE, "input": "äbc", "text": True}, "cat", "äbc", None),
    ({"stdout": ocirun.PIPE, "stdin": ocirun.DEVNULL}, "cat; echo end", b"end\n", None),
    ({"stdout": ocirun.PIPE, "input": b"x" * 1000000}, "exit 0", b"", None),
    ({"stdout": ocirun.PIPE, "input": b"x" * 1000000}, "cat", b"x" * 1000000, None),
    ({"stdout": ocirun.PIPE}, "ls /proc/self/fd", b"0\n1\n2\n3\n", None),
    ({"stdout": ocirun.DEVNULL, "stderr": ocirun.DEVNULL}, "echo out", None, None),
)


@pytest.mark.parametrize(("options", "script", "stdout", "stderr"), STREAMS)
def test_streams(
    rt: ocirun.Runtime, bundle: Bundle, options: dict, script: str, stdout: object, stderr: object
) -> None:
    done = rt.run(bundle.sh(script).write(), **options)
    assert (done.exit_status, done.stdout, done.stderr) == (0, stdout, stderr)


def test_files_and_descriptors_as_streams(
    rt: ocirun.Runtime, bundle: Bundle, tmp_path: Path
) -> None:
    with open(tmp_path / "out", "wb") as out:
        rt.run(bundle.sh("echo one").write(), stdout=out)
        rt.run(bundle.path, stdout=out.fileno())
    assert (tmp_path / "out").read_bytes() == b"one\none\n"
    with pytest.raises(ValueError, match="exclude"):
        rt.run(bundle.path, stdin=ocirun.PIPE, input=b"")
    with pytest.raises(ValueError, match="excludes"):
        rt.run(bundle.path, stdout=ocirun.PIPE, capture_output=True)


def test_pipes_of_a_created_container(rt: ocirun.Runtime, bundle: Bundle) -> None:
    folder = bundle.args("/bin/cat").write()
    made = rt.create(bundle.id, folder, stdin=ocirun.PIPE, stdout=ocirun.PIPE, text=True)
    assert made.stdin and made.stdout and made.stderr is None
    made.start()
    made.stdin.write("hello\n")
    made.stdin.flush()
    assert made.stdout.readline() == "hello\n"
    made.stdin.close()
    assert made.wait(timeout=10) == 0
    assert made.stdout.read() == ""
    made.stdout.close()
    made.delete()


def test_a_timeout_kills_and_deletes(rt: ocirun.Runtime, bundle: Bundle) -> None:
    began = time.monotonic()
    with pytest.raises(ocirun.ContainerTimeout) as caught:
        rt.run(bundle.sh("echo first; sleep 100").write(), stdout=ocirun.PIPE, timeout=0.5)
    assert caught.value.stdout == b"first\n"
    assert caught.value.timeout == 0.5
    assert time.monotonic() - began < 10
    assert rt.list() == []


def test_an_interrupt_kills_and_deletes(tmp_path: Path, bundle: Bundle) -> None:
    script = f"""
import ocirun
with ocirun.Runtime({str(tmp_path / "s")!r}) as rt:
    try:
        rt.run({str(bundle.sh("echo up; sleep 100").write())!r})
    except KeyboardInterrupt:
        print("interrupted", rt.list(), flush=True)
"""
    python = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert python.stdout is not None
    assert python.stdout.readline() == "up\n"
    python.send_signal(signal.SIGINT)
    assert python.stdout.readline() == "interrupted []\n"
    python.stdout.close()
    assert python.wait(timeout=10) == 0


def test_errors_carry_their_facts(rt: ocirun.Runtime, bundle: Bundle) -> None:
    entry = {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["size=lots"]}
    folder = str(bundle.add("/mounts", entry).write())
    with pytest.raises(StepFailed) as caught:
        rt.run(folder)
    error = caught.value
    assert error.pointer.startswith("/mounts/")
    assert (error.syscall, error.errno, error.bundle) == ("fsconfig(size)", 22, folder)
    assert "size" in error.kernel
    assert error.step == "mount tmpfs on /data (size=lots)"
    assert error.hint


def test_missing_command(rt: ocirun.Runtime, bundle: Bundle) -> None:
    with pytest.raises(CommandNotFound, match=r"executable file not found in \$PATH"):
        rt.create(bundle.id, bundle.args("no-such-program").write())
    with pytest.raises(CommandNotFound):
        rt.run(bundle.path)


BUNDLES = {
    "user namespace": lambda b: b.user_namespace(),
    "joined": lambda b: (
        b.namespace("ipc", "/proc/self/ns/ipc")
        .namespace("uts", "/proc/self/ns/uts")
        .drop("/hostname")
    ),
    "time": lambda b: b.namespace("time"),
    "a plan beyond one packet": lambda b: b.add(
        "/process/env", *(f"V{n}={'x' * 1000}" for n in range(120))
    ),
    "rare": lambda b: b.set("/process/ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 7}),
    "hooks": lambda b: b.set(
        "/hooks",
        {
            "createRuntime": [{"path": "/bin/true"}],
            "createContainer": [{"path": "/bin/true"}],
            "startContainer": [{"path": "/bin/true"}],
            "poststart": [{"path": "/bin/true"}],
            "poststop": [{"path": "/bin/true"}],
        },
    ),
}


@pytest.mark.parametrize("name", BUNDLES)
def test_bundles_of_all_kinds(rt: ocirun.Runtime, bundle: Bundle, name: str) -> None:
    if name == "time" and not Path("/proc/self/ns/time").exists():
        pytest.skip("this kernel has no time namespaces")
    folder = BUNDLES[name](bundle.sh("echo here")).write()
    assert rt.run(folder, stdout=ocirun.PIPE, check=True).stdout == b"here\n"
    made = rt.create(bundle.id, folder, stdout=ocirun.DEVNULL)
    made.start()
    assert made.wait(timeout=10) == 0
    made.delete()


def test_a_join_that_fails(rt: ocirun.Runtime, bundle: Bundle) -> None:
    with pytest.raises(StepFailed) as caught:
        rt.run(bundle.namespace("ipc", "/proc/self/ns/none").write())
    assert caught.value.errno == 2
    assert caught.value.pointer.startswith("/linux/namespaces/")


def test_out_of_memory(rt: ocirun.Runtime, bundle: Bundle) -> None:
    bundle.set("/linux/resources", {"memory": {"limit": 16 << 20}})
    done = rt.run(bundle.sh("x=$(yes | head -c 100000000); echo $x").write(), capture_output=True)
    assert done.oom_killed


def test_usage(rt: ocirun.Runtime, bundle: Bundle) -> None:
    done = rt.run(bundle.sh("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").write())
    assert 0 < done.usage.user + done.usage.system < 30
    assert done.usage.max_rss > 100 << 10


def test_a_spec_without_a_bundle(rt: ocirun.Runtime, bundle: Bundle) -> None:
    """The state folder is its bundle: hooks and other tools find config.json there."""
    config = bundle.sh("echo from memory").config
    with pytest.raises(ocirun.OcirunError, match="relative"):
        rt.run(config)
    bundle.set("/root/path", str(bundle.path / "rootfs"))
    assert rt.run(config, stdout=ocirun.PIPE).stdout == b"from memory\n"
    held = rt.create(bundle.id, config)
    folder = Path(held.state()["bundle"])
    assert folder == Path(rt.root) / bundle.id
    assert (folder / "config.json").is_file()
    held.delete(force=True)
    assert not folder.exists()


def test_a_throw_away_layer_over_the_root(rt: ocirun.Runtime, bundle: Bundle) -> None:
    spec = ocirun.Spec.default(rootfs=str(bundle.path / "rootfs"), args=["/bin/sh", "-c", "true"])
    spec = spec.replace("/linux/cgroupsPath", bundle.config["linux"]["cgroupsPath"]).with_overlay()
    script = "echo gone > /here; cat /here"
    done = rt.run(spec.with_args("/bin/sh", "-c", script), capture_output=True, text=True)
    assert (done.exit_status, done.stdout, done.stderr) == (0, "gone\n", "")
    done = rt.run(spec.with_args("/bin/sh", "-c", "cat /here"), capture_output=True)
    assert done.exit_status == 1
    assert not (bundle.path / "rootfs/here").exists()


def test_the_command_line_sees_the_same(
    rt: ocirun.Runtime, bundle: Bundle, runtime: Command
) -> None:
    made = rt.create(bundle.id, bundle.sleeper().write())
    argv = [*runtime.argv("start", bundle.id)]
    argv[argv.index("--root") + 1] = rt.root
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    assert made.state()["status"] == "running"
    argv[-2:] = ["kill", bundle.id, "KILL"]
    subprocess.run(argv, check=True)
    assert made.wait(timeout=10) == 137
    argv[-3:] = ["delete", bundle.id]
    subprocess.run(argv, check=True)
    with pytest.raises(NotFound):
        made.delete()


def test_a_dead_executor_is_replaced(rt: ocirun.Runtime, bundle: Bundle) -> None:
    """And its containers are not lost."""
    made = rt.create(bundle.id, bundle.sh("sleep 0.2; exit 3").write())
    first = rt._executor.pid
    pidfd = os.pidfd_open(first)
    os.kill(first, signal.SIGKILL)
    select.select([pidfd], [], [], 10)  # a request that meets a dying one fails: ExecutorDied
    os.close(pidfd)
    assert made.state()["status"] == "created"
    made.start()
    other = bundle.sh("exit 5").drop("/linux/cgroupsPath").write()
    assert rt.run(other).exit_status == 5
    assert rt._executor.pid != first
    assert made.wait(timeout=10) is None  # nobody could wait for it
    made.delete()


def test_an_executor_that_dies_during_a_run(rt: ocirun.Runtime, bundle: Bundle) -> None:
    killer = threading.Timer(0.5, lambda: os.kill(rt._executor.pid, signal.SIGKILL))
    killer.start()
    done = rt.run(bundle.sh("sleep 1; echo end").write(), stdout=ocirun.PIPE)
    assert (done.exit_status, done.stdout) == (-1, b"end\n")


def spare_of(rt: ocirun.Runtime) -> int:
    """The pid of the spare init, once there is one."""
    path = Path(f"/proc/{rt._executor.pid}/task/{rt._executor.pid}/children")
    for _ in range(500):
        if words := path.read_text().split():
            return int(words[0])
        time.sleep(0.01)
    raise AssertionError("no spare was made")


def test_the_spare_becomes_the_next_container(sparing: ocirun.Runtime, bundle: Bundle) -> None:
    folder = bundle.sleeper().write()
    sparing.run(bundle.args("/bin/true").write())
    spare = spare_of(sparing)
    made = sparing.create(bundle.id, bundle.sleeper().write(), stdin=ocirun.DEVNULL)
    assert made.pid == spare
    made.delete(force=True)
    other = bundle.drop_namespace("ipc").write()
    spare = spare_of(sparing)
    made = sparing.create(bundle.id, other, stdin=ocirun.DEVNULL)
    assert made.pid != spare, "it has other namespaces"
    assert not is_there(spare)
    made.delete(force=True)
    assert folder == other


def test_a_spare_is_not_asked_for_what_it_has_not_loaded(
    sparing: ocirun.Runtime, bundle: Bundle
) -> None:
    sparing.run(bundle.args("/bin/true").write())
    spare_of(sparing)
    bundle.set("/process/ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 7})
    done = sparing.run(bundle.args("/bin/probe").write(), stdout=ocirun.PIPE, check=True)
    assert json.loads(done.stdout)["ioprio"] == 2 << 13 | 7


@pytest.mark.parametrize("nnp", [True, False])
def test_a_spare_gets_a_filter(sparing: ocirun.Runtime, bundle: Bundle, nnp: bool) -> None:
    """Docker's profile, compiled once, in a spare that has imported what it needs."""
    bundle.set("/process/noNewPrivileges", nnp).set("/linux/seccomp", docker_profile())
    folder = bundle.sh("grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp || echo no").write()
    for _ in range(3):
        done = sparing.run(folder, stdout=ocirun.PIPE, stderr=ocirun.DEVNULL, text=True)
        assert done.stdout.split() == ["Seccomp:", "2", "no"]
        spare = spare_of(sparing)
    made = sparing.create(bundle.id, bundle.sleeper().write(), stdin=ocirun.DEVNULL)
    assert made.pid == spare
    made.delete(force=True)
    assert len(list((Path(sparing.root) / ".seccomp").iterdir())) == 1


def test_the_spare_does_not_hide_new_mounts(sparing: ocirun.Runtime, bundle: Bundle) -> None:
    """It has the host's mounts of its birth: a change makes it useless."""
    place = bundle.rootfs / "mnt"
    folder = bundle.sh("cat /mnt/file").write()
    assert sparing.run(folder, stderr=ocirun.DEVNULL).exit_status == 1
    spare_of(sparing)
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        (place / "file").write_text("new")
        assert sparing.run(folder, stdout=ocirun.PIPE).stdout == b"new"
        spare_of(sparing)
    finally:
        subprocess.run(["umount", place], check=True)
    assert sparing.run(folder, stderr=ocirun.DEVNULL).exit_status == 1


def test_a_spare_that_is_killed(sparing: ocirun.Runtime, bundle: Bundle) -> None:
    folder = bundle.sh("exit 6").write()
    sparing.run(folder)
    for _ in range(3):
        spare = spare_of(sparing)
        os.kill(spare, signal.SIGKILL)
        while is_there(spare):
            time.sleep(0.001)
        assert sparing.run(folder).exit_status == 6


def test_containers_outlive_the_runtime(rt: ocirun.Runtime, bundle: Bundle) -> None:
    with ocirun.Runtime(rt.root) as other:
        other.create(bundle.id, bundle.sleeper().write()).start()
    left = rt.get(bundle.id)
    assert left.state()["status"] == "running"
    left.delete(force=True)


def test_signals_of_the_caller_are_left_alone(rt: ocirun.Runtime, bundle: Bundle) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: heard.append(number))
    try:
        folder = bundle.args("/bin/true").write()
        for _ in range(3):
            assert rt.run(folder).exit_status == 0
        assert heard == []
        own = subprocess.run(["true"], check=True)
        assert own.returncode == 0
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_fork_gets_an_executor_of_its_own(rt: ocirun.Runtime, bundle: Bundle) -> None:
    folder = bundle.args("/bin/true").write()
    rt.run(folder)
    mine = rt._executor.pid
    child = os.fork()
    if child == 0:
        good = rt.run(folder).exit_status == 0 and rt._executor.pid != mine
        rt.close()
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert rt.run(folder).exit_status == 0
    assert rt._executor.pid == mine


def test_the_executor_keeps_no_directory_of_the_caller(rt: ocirun.Runtime) -> None:
    for _ in range(500):
        if os.readlink(f"/proc/{rt._executor.pid}/cwd") == "/":
            break
        time.sleep(0.01)
    assert os.readlink(f"/proc/{rt._executor.pid}/cwd") == "/"


def test_threads(rt: ocirun.Runtime, bundle: Bundle) -> None:
    folder = bundle.drop("/linux/cgroupsPath").args("/bin/true").write()
    done: list[int] = []
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            [bytearray(200) for _ in range(1000)]

    def work() -> None:
        for _ in range(5):
            done.append(rt.run(folder).exit_status)

    spinner = threading.Thread(target=busy)
    workers = [threading.Thread(target=work) for _ in range(3)]
    for thread in (spinner, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    spinner.join()
    assert done == [0] * 15


def test_threads_that_wait_for_one_container(rt: ocirun.Runtime, bundle: Bundle) -> None:
    made = rt.create(bundle.id, bundle.sh("sleep 0.2; exit 4").write())
    made.start()
    found: list[int | None] = []
    waits = [threading.Thread(target=lambda: found.append(made.wait(20))) for _ in range(4)]
    for thread in waits:
        thread.start()
    for thread in waits:
        thread.join()
    assert found == [4] * 4
    made.delete()


SCARCE = """
import resource, sys, ocirun
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
held = []
with ocirun.Runtime(sys.argv[1]) as rt:
    done = rt.run(sys.argv[2], stdout=ocirun.PIPE, text=True)
    print(done.stdout.strip(), end=" ")
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
    try:
        for number in range(40):
            held.append(rt.create(f"held-{number}", sys.argv[3], stdin=ocirun.DEVNULL))
    except (OSError, ocirun.OcirunError) as error:
        print(error.errno, end=" ")
    names = {info.id for info in rt.list()}
    print(len(held) > 5, names == {container.id for container in held}, end=" ")
    for container in held:
        container.delete(force=True)
    print(rt.list(), rt.run(sys.argv[2], stdout=ocirun.DEVNULL).exit_status)
"""


def test_when_descriptors_run_out(
    bundle: Bundle, make_bundle: Callable[..., Bundle], tmp_path: Path
) -> None:
    """A clear error, and nothing half-made; the container sees the caller's limits."""
    shown = bundle.sh("ulimit -n").set("/process/rlimits", []).write()
    held = make_bundle().args("/bin/true").drop("/linux/cgroupsPath").write()
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    python = subprocess.run(
        [sys.executable, "-c", SCARCE, str(tmp_path / "state"), str(shown), str(held)],
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert (python.stdout, python.stderr) == (f"{soft} 24 True True [] 0\n", "")


ENDLESS = """
import itertools, sys, ocirun
rt = ocirun.Runtime(sys.argv[1])
print(rt._executor.start() or rt._executor.pid, flush=True)
for number in itertools.count():
    rt.create(f"held-{number}", sys.argv[2], stdin=ocirun.DEVNULL, stdout=ocirun.DEVNULL)
    rt.run(sys.argv[2], stdout=ocirun.DEVNULL)
"""


@pytest.mark.parametrize("milliseconds", [1, 4, 9, 15, 22, 30, 41, 53, 70, 100])
def test_a_caller_that_is_killed(bundle: Bundle, tmp_path: Path, milliseconds: int) -> None:
    """The executor and its spare go too; what is left of containers can be deleted."""
    folder = bundle.args("/bin/true").drop("/linux/cgroupsPath").write()
    state = str(tmp_path / "state")
    python = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, state, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert python.stdout is not None
    executor = int(python.stdout.readline())
    children = Path(f"/proc/{executor}/task/{executor}/children")
    time.sleep(0.05 + milliseconds / 1000)
    spaces = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    python.kill()
    python.wait()
    python.stdout.close()
    with ocirun.Runtime(state) as left:
        for _ in range(500):
            known = {info.pid for info in left.list()}
            lost = [pid for pid in spaces if pid not in known and is_there(pid)]
            if not is_there(executor) and not lost:
                break
            time.sleep(0.01)
        assert not is_there(executor)
        assert not lost
        for info in left.list():
            left.delete(info.id, force=True)
        assert left.list() == []


def is_there(pid: int) -> bool:
    """A process of that pid is alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
