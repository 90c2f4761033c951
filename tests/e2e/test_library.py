"""The public library: the same containers, from Python, without a command."""

import os
import socket
import threading
from pathlib import Path

import pytest
from lib.bundle import Bundle

import ocirun
from ocirun.errors import AlreadyExists, CommandNotFound, NotFound, StepFailed, WrongStatus

pytestmark = [pytest.mark.root, pytest.mark.only("ocirun")]


@pytest.fixture
def runtime(tmp_path: Path) -> ocirun.Runtime:
    return ocirun.Runtime(str(tmp_path / "state"))


def test_the_life_of_a_container(runtime: ocirun.Runtime, bundle: Bundle) -> None:
    container = runtime.create(bundle.id, str(bundle.args("/bin/sleep", "100").write()))
    assert container.state()["status"] == "created"
    with pytest.raises(AlreadyExists):
        runtime.create(bundle.id, str(bundle.path))
    container.start()
    assert runtime.get(bundle.id).state()["status"] == "running"
    assert [(info.id, info.status) for info in runtime.list()] == [(bundle.id, "running")]
    with pytest.raises(WrongStatus):
        container.start()
    with pytest.raises(WrongStatus):
        container.delete()
    container.kill("KILL")
    container.delete(force=True)
    with pytest.raises(NotFound):
        container.state()
    assert runtime.list() == []


def test_run_returns_the_exit_status(runtime: ocirun.Runtime, bundle: Bundle) -> None:
    assert runtime.run(bundle.id, str(bundle.sh("exit 7").write())) == 7


def test_errors_carry_their_facts(runtime: ocirun.Runtime, bundle: Bundle) -> None:
    entry = {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["size=lots"]}
    folder = str(bundle.add("/mounts", entry).write())
    with pytest.raises(StepFailed) as caught:
        runtime.run(bundle.id, folder)
    error = caught.value
    assert error.pointer.startswith("/mounts/")
    assert (error.syscall, error.errno, error.bundle) == ("fsconfig(size)", 22, folder)
    assert "size" in error.kernel
    assert error.step == "mount tmpfs on /data (size=lots)"
    assert error.hint


def test_missing_command(runtime: ocirun.Runtime, bundle: Bundle) -> None:
    with pytest.raises(CommandNotFound, match=r"executable file not found in \$PATH"):
        runtime.create(bundle.id, str(bundle.args("no-such-program").write()))


def test_threads(runtime: ocirun.Runtime, bundle: Bundle) -> None:
    """A bare clone beside other threads could copy a lock that is held: nothing may hang."""
    folder = str(bundle.drop("/linux/cgroupsPath").args("/bin/true").write())
    done: list[int] = []
    stop = threading.Event()

    def busy() -> None:
        while not stop.is_set():
            [bytearray(200) for _ in range(1000)]

    def work(number: int) -> None:
        for turn in range(5):
            done.append(runtime.run(f"{bundle.id}-{number}-{turn}", folder))

    spinner = threading.Thread(target=busy)
    workers = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in (spinner, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    spinner.join()
    assert done == [0] * 15


def test_pidfd_socket(runtime: ocirun.Runtime, bundle: Bundle) -> None:
    """The caller gets a pidfd of init, as runc's --pidfd-socket gives it."""
    path = str(bundle.path / "pidfd")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1)
        folder = str(bundle.args("/bin/sleep", "100").write())
        container = runtime.create(bundle.id, folder, pidfd_socket=path)
        connection, _ = server.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 16, 1)
    words = Path(f"/proc/self/fdinfo/{descriptors[0]}").read_text().split()
    assert int(words[words.index("Pid:") + 1]) == container.state()["pid"]
    os.close(descriptors[0])
    container.delete(force=True)
